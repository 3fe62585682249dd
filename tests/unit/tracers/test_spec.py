"""The tracer files: what they hold, which spellings they take, and how a bad file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from relapet.errors import InputError
from relapet.imaging.grid import GRIDS
from relapet.imaging.template import atlas_names, load_atlas
from relapet.tracers import TracerSpec, get_tracer, load_tracer, load_tracers, simulated_tracers
from relapet.tracers.spec import index_tracers

SIMULATED = ("pbr28", "pib", "tau")
NAMES = (*SIMULATED, "florbetapir", "florbetaben", "fdg", "mk6240")
PACKAGED = Path(__file__).parents[3] / "src" / "relapet" / "tracers"

EXAMPLE = """\
name = "demo"
label = "DEMO"
ligand = "[18F]demo"
target = "nothing"
aliases = ["[18F]demo"]
index = 7
isotope = "F18"
half_life_minutes = 109.77
window_minutes = [90.0, 110.0]
suvr_window = [0.0, 3.0]
display_window = [0.5, 2.0]
sources = ["nobody"]

[reference_region]
name = "cerebellum"
labels = ["{Left,Right}-Cerebellum-Cortex"]
source = "nobody"

[composites]
insula = ["ctx-{lh,rh}-insula"]

[positivity]
composite = "insula"
threshold = 1.2
source = "nobody"

[simulation]
burden = "tau"
invisible_share = 0.5

[[simulation.uptake]]
region = "cortex"
labels = ["ctx-{lh,rh}-insula"]
baseline = 1.1
sd = 0.1
pathology = 0.5
onset = 0.2
population_range = [0.9, 1.6]
source = "nobody"

[[simulation.uptake]]
region = "cerebellum"
labels = ["{Left,Right}-Cerebellum-Cortex"]
baseline = 1.0
sd = 0.1
population_range = [0.9, 1.1]
source = "nobody"
"""


@pytest.fixture(params=NAMES)
def spec(request: pytest.FixtureRequest) -> TracerSpec:
    return load_tracers()[request.param]


@pytest.fixture(params=SIMULATED)
def simulated(request: pytest.FixtureRequest) -> TracerSpec:
    return load_tracers()[request.param]


def write(folder: Path, text: str) -> Path:
    path = folder / "demo.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_tracers_stand_in_the_order_of_the_published_embedding() -> None:
    assert tuple(load_tracers()) == NAMES
    assert [spec.index for spec in load_tracers().values()] == list(range(len(NAMES)))
    assert [spec.label for spec in load_tracers().values()][:3] == ["PBR28", "PIB", "AV1451"]
    assert tuple(simulated_tracers()) == SIMULATED
    assert {path.stem for path in PACKAGED.glob("*.toml")} == set(NAMES)


def test_uptake_covers_every_label_of_the_atlas_once(simulated: TracerSpec) -> None:
    assert sorted(simulated.how_simulated().labels()) == sorted(atlas_names().values())


def test_every_label_named_is_in_the_atlas_image(spec: TracerSpec) -> None:
    # load_atlas().mask raises InputError for a label without a name, and is empty for one without voxels.
    atlas = load_atlas(GRIDS["1mm"])
    groups = [spec.reference_region.labels, *spec.composites.values()]
    groups += [spec.centiloid.reference_labels] if spec.centiloid else []
    genotype = spec.simulation.genotype if spec.simulation else None
    groups += [genotype.spared] if genotype else []
    for labels in groups:
        assert len(set(labels)) == len(labels)
        assert all(atlas.mask((label,)).any() for label in labels)


def test_labels_come_in_pairs_of_both_hemispheres(spec: TracerSpec) -> None:
    other = {"ctx-lh-": "ctx-rh-", "ctx-rh-": "ctx-lh-", "Left-": "Right-", "Right-": "Left-"}
    uptake = spec.simulation.uptake if spec.simulation else ()
    for labels in (*spec.composites.values(), *(row.labels for row in uptake)):
        for label in labels:
            prefix = next((p for p in other if label.startswith(p)), None)
            if prefix is not None:
                assert label.replace(prefix, other[prefix]) in labels


def test_the_window_of_pictures_lies_in_that_of_the_model(spec: TracerSpec) -> None:
    low, high = spec.suvr_window
    assert low <= spec.display_window[0] < spec.display_window[1] <= high


def test_windows_hold_the_simulated_uptake(simulated: TracerSpec) -> None:
    low, high = simulated.suvr_window
    for row in simulated.how_simulated().uptake:
        # Three decades beyond the reference age, three SD up, complete pathology.
        top = row.baseline + 3 * row.sd + 3 * row.age_per_decade + row.pathology
        assert low < row.population_range[0] < row.population_range[1] < high
        assert top < high, row.region
        # A mixed population lies between health and half-complete pathology.
        assert (
            row.population_range[0]
            < row.baseline
            <= row.baseline + row.pathology / 2
            < row.population_range[1]
        )


def test_whole_cortex_holds_all_named_cortex(spec: TracerSpec) -> None:
    cortex = {n for n in atlas_names().values() if n.startswith("ctx-") and not n.endswith("unknown")}
    assert set(spec.composites["whole_cortex"]) == cortex


def test_braak_stages_part_the_cortex() -> None:
    composites = get_tracer("tau").composites
    stages = [set(composites[name]) for name in ("braak_1_2", "braak_3_4", "braak_5_6")]
    assert sum(map(len, stages)) == len(set.union(*stages))
    subcortical = {f"{side}-{name}" for side in ("Left", "Right") for name in ("Hippocampus", "Amygdala")}
    assert set.union(*stages) == set(composites["whole_cortex"]) | subcortical


def test_tau_fills_in_the_order_of_braak() -> None:
    tau = get_tracer("tau")
    onset = {label: row.onset for row in tau.how_simulated().uptake for label in row.labels}
    latest = [max(onset[label] for label in tau.composites[name]) for name in ("braak_1_2", "braak_3_4")]
    assert latest == sorted(latest)
    assert onset["ctx-lh-entorhinal"] < onset["Left-Amygdala"] < onset["ctx-lh-inferiortemporal"]
    assert onset["ctx-lh-inferiortemporal"] < onset["ctx-lh-precuneus"] < onset["ctx-lh-precentral"]


def test_centiloid_is_that_of_klunk() -> None:
    centiloid = get_tracer("pib").centiloid
    assert centiloid is not None
    scale = [100 * (suvr - centiloid.intercept_suvr) / centiloid.span_suvr for suvr in (1.009, 2.076)]
    assert scale == pytest.approx([0, 100])
    assert get_tracer("tau").centiloid is None
    assert get_tracer("pbr28").positivity is None


def test_genotype_contrast_follows_from_the_distribution_volumes() -> None:
    genotype = get_tracer("pbr28").how_simulated().genotype
    assert genotype is not None
    specific = {"HAB": (4.33 - 1.98) / 4.33, "MAB": (2.94 - 1.98) / 2.94}  # Owen 2014, V_S / V_T
    assert genotype.contrast["MAB"] == pytest.approx(specific["MAB"] / specific["HAB"], abs=0.02)
    assert genotype.contrast["HAB"] == 1
    assert get_tracer("pib").how_simulated().genotype is None


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        *[(a, "tau") for a in ("tau", "TAU", "AV1451", "av-1451", "trc-AV1451", "18FAV1451", "[18F]AV-1451")],
        *[(a, "tau") for a in ("18F-AV1451", "Flortaucipir", "[18F]flortaucipir", "T807", "ftp", "tau_pet")],
        *[(a, "pbr28") for a in ("PBR28", "pbr-28", "11C-PBR28", "[11C]PBR28", "TSPO", "PBR", "trc-PBR28")],
        *[(a, "pib") for a in ("PIB", "PiB", "11C-PIB", "[11C]PiB", "[C-11]PIB", "amyloid", "trc-PIB")],
        ("Pittsburgh Compound-B", "pib"),
        # as conversions of ADNI to BIDS name them
        *[("18FAV1451", "tau"), ("11CPIB", "pib"), ("18FAV45", "florbetapir"), ("18FFBB", "florbetaben")],
        *[("18FFDG", "fdg"), ("FDG", "fdg"), ("AV45", "florbetapir"), ("AV-45", "florbetapir")],
        *[("[18F]florbetapir", "florbetapir"), ("Amyvid", "florbetapir"), ("FBB", "florbetaben")],
        *[("18FMK6240", "mk6240"), ("[18F]MK-6240", "mk6240"), ("trc-MK6240", "mk6240")],
    ],
)
def test_a_tracer_is_found_in_any_spelling(alias: str, name: str) -> None:
    assert get_tracer(alias).name == name


@pytest.mark.parametrize("alias", ["raclopride", "", "[]", "av145", "trc-"])
def test_an_unknown_tracer_is_refused_with_the_known_ones(alias: str) -> None:
    with pytest.raises(InputError) as error:
        get_tracer(alias)
    assert all(
        spec.name in str(error.value) and spec.label in str(error.value) for spec in load_tracers().values()
    )


def test_a_tracer_is_one_file(tmp_path: Path) -> None:
    demo = load_tracer(write(tmp_path, EXAMPLE))
    assert demo.composites["insula"] == ("ctx-lh-insula", "ctx-rh-insula")
    assert list(index_tracers([demo, *load_tracers().values()])) == [*NAMES, "demo"]


@pytest.mark.parametrize(
    ("good", "bad", "key"),
    [
        ("half_life_minutes = 109.77\n", "", "half_life_minutes"),
        ("half_life_minutes = 109.77", "half_life_minutes = -1", "half_life_minutes"),
        ("index = 7", 'index = "seven"', "index"),
        ("index = 7", "index = 7\ncolour = 1", "colour"),
        ("sd = 0.1\npathology", "sd = 0.1\nmagic = 1\npathology", "uptake.0.magic"),
        ("baseline = 1.1", 'baseline = "high"', "uptake.0.baseline"),
        ("baseline = 1.1", "baseline = inf", "uptake.0.baseline"),
        ("baseline = 1.1", "baseline = 1.1\nage_per_decade = nan", "uptake.0.age_per_decade"),
        ("onset = 0.2", "onset = 1", "onset"),
        ("onset = 0.2", "onset = 1.2", "uptake.0.onset"),
        ("window_minutes = [90.0, 110.0]", "window_minutes = [110.0, 90.0]", "window_minutes"),
        ("suvr_window = [0.0, 3.0]", "suvr_window = [3.0, 3.0]", "suvr_window"),
        ("suvr_window = [0.0, 3.0]", "suvr_window = [0.0]", "suvr_window"),
        ("population_range = [0.9, 1.6]", "population_range = [1.6, 0.9]", "population_range"),
        ('composite = "insula"', 'composite = "cortex"', "positivity.composite"),
        ('insula = ["ctx-{lh,rh}-insula"]', "insula = []", "composites.insula"),
        ('insula = ["ctx-{lh,rh}-insula"]', "insula = [3]", "composites.insula"),
        ('insula = ["ctx-{lh,rh}-insula"]', 'insula = ["ctx-lh-cuneus"]', "composites.insula"),
        (
            '[reference_region]\nname = "cerebellum"\nlabels = ["{Left,Right}-Cerebellum-Cortex"]',
            '[reference_region]\nname = "pons"\nlabels = ["Brain-Stem"]',
            "reference_region.labels",
        ),
        ('labels = ["ctx-{lh,rh}-insula"]', 'labels = ["ctx-lh-{insula,insula}"]', "uptake.labels"),
        ('name = "demo"', 'name = "Demo Tracer"', "name"),
        ('burden = "tau"', 'burden = "iron"', "burden"),
        (EXAMPLE, "just = words = here", "not a readable TOML file"),
    ],
)
def test_a_bad_file_is_refused_with_file_and_key(tmp_path: Path, good: str, bad: str, key: str) -> None:
    assert good in EXAMPLE
    path = write(tmp_path, EXAMPLE.replace(good, bad, 1))
    with pytest.raises(InputError) as error:
        load_tracer(path)
    assert str(path) in str(error.value)
    assert key in str(error.value).removeprefix(str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.toml"):
        load_tracer(tmp_path / "absent.toml")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(InputError, match=r"binary\.toml"):
        load_tracer(path)


def test_the_example_of_the_documentation_loads(tmp_path: Path) -> None:
    text = (PACKAGED.parents[2] / "docs" / "tracers.md").read_text(encoding="utf-8")
    path = write(tmp_path, text.split("```toml\n")[1].split("```")[0])
    assert len(index_tracers([*load_tracers().values(), load_tracer(path)])) == len(NAMES) + 1


GENOTYPE = """\
[simulation.genotype]
gene = "A"
frequency = { X = 0.5, Y = 0.5 }
contrast = { X = 1.0, Y = 0.5 }
spared = ["ctx-lh-insula"]
source = "nobody"

[[simulation.uptake]]
"""


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        ("Y = 0.5 }\ncontrast", "Y = 0.4 }\ncontrast", "sum to 1"),
        ("Y = 0.5 }\nspared", "Z = 0.5 }\nspared", "same"),
    ],
)
def test_genotypes_must_agree(tmp_path: Path, good: str, bad: str, fault: str) -> None:
    text = EXAMPLE.replace("[[simulation.uptake]]\n", GENOTYPE, 1)
    assert load_tracer(write(tmp_path, text)).how_simulated().genotype is not None
    with pytest.raises(InputError, match=f"genotype.*{fault}"):
        load_tracer(write(tmp_path, text.replace(good, bad)))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("11cpib", 'aliases = ["[11C]-PiB"]'),
        ("tau", 'aliases = ["TAU"]'),
        ("index 1", None),
    ],
)
def test_a_clash_of_names_or_indices_is_refused(tmp_path: Path, key: str, change: str | None) -> None:
    text = (
        EXAMPLE.replace('aliases = ["[18F]demo"]', change)
        if change
        else EXAMPLE.replace("index = 7", "index = 1")
    )
    demo = load_tracer(write(tmp_path, text))
    with pytest.raises(InputError, match=rf"\bdemo\b.* claim {key};"):
        index_tracers([*load_tracers().values(), demo])

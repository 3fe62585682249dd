"""The simulated cohort: population facts, ceilings, determinism, files. One cohort in memory serves all."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from relapet.errors import InputError
from relapet.imaging.bids import Visit, index_derivative
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import load_volume
from relapet.imaging.template import atlas_names
from relapet.simulation.cohort import SimulationConfig, simulate_cohort, simulate_subject
from relapet.simulation.regions import base_name, lobe_of_label
from relapet.simulation.scanner import SITES, Site, get_site, override_scanners
from relapet.simulation.subject import missing_tracers, simulate_latents
from relapet.tracers import simulated_tracers

GRID = GRIDS["4mm"]
SUBJECTS, REPEATED = 64, 24
# Mixed population on the scanner whose resolution the uptake tables speak of.
MIXED = Site("mixed", SITES["adni"].population, SITES["research"].scanners)
CONFIG = SimulationConfig(subjects=SUBJECTS, site=MIXED, grid=GRID, seed=11)
INDICES = np.array(sorted(atlas_names()))


@dataclass(frozen=True)
class Cohort:
    """Label means (subjects, labels) by (tracer, kind), label volumes in voxels, latents, image volumes."""

    means: dict[tuple[str, str], np.ndarray]
    voxels: np.ndarray
    latents: pd.DataFrame

    def region(self, tracer: str, kind: str, names: tuple[str, ...]) -> np.ndarray:
        """Mean SUVr (subjects,) of a region pooled over labels, in each subject's own labels."""
        columns = np.isin([atlas_names()[i] for i in INDICES], names)
        weights, values = self.voxels[:, columns], self.means[tracer, kind][:, columns]
        return (np.nan_to_num(values) * weights).sum(axis=1) / weights.sum(axis=1)


def _label_means(image: np.ndarray, dseg: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    return ndimage.sum_labels(image, dseg, INDICES) / np.maximum(voxels, 1)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    means: dict[tuple[str, str], list[np.ndarray]] = {}
    voxels, rows = [], []
    for index in range(SUBJECTS):
        subject = simulate_subject(CONFIG, index)
        dseg, latents = subject.anatomy.dseg, subject.latents
        voxels.append(ndimage.sum_labels(np.ones(GRID.shape), dseg, INDICES))
        for name, pet in subject.pet.items():
            for kind in ("measured", "noise_free", "visible"):
                means.setdefault((name, kind), []).append(_label_means(getattr(pet, kind), dseg, voxels[-1]))
        if index < REPEATED:
            again = simulate_subject(CONFIG.changed(noise_seed=99), index)
            for name, pet in again.pet.items():
                means.setdefault((name, "retest"), []).append(_label_means(pet.measured, dseg, voxels[-1]))
        ventricles = np.isin(dseg, [4, 43, 31, 63])
        rows.append(
            {
                "age": latents.age,
                "tau": latents.burden["tau"],
                "lesion_ml": latents.lesion_ml,
                "lesion_image_ml": subject.lesion.sum() * GRID.voxel_size**3 / 1000,
                "ventricle_growth": latents.ventricle_growth,
                "ventricle_ml": (subject.anatomy.csf * ventricles).sum() * GRID.voxel_size**3 / 1000,
            }
        )
    return Cohort({key: np.stack(v) for key, v in means.items()}, np.stack(voxels), pd.DataFrame(rows))


def _tested_rows() -> list:
    """Uptake rows whose region is large enough at 4 mm to be measured."""
    small = ("vessel", "chiasm", "hypointensities", "medial wall", "accumbens")
    return [
        pytest.param(tracer.name, row, id=f"{tracer.name}-{row.region[:30]}")
        for tracer in simulated_tracers().values()
        for row in tracer.how_simulated().uptake
        if not any(word in row.region for word in small)
    ]


@pytest.mark.parametrize(("tracer", "row"), _tested_rows())
def test_regional_mean_lies_in_the_population_range(cohort: Cohort, tracer: str, row) -> None:
    values = cohort.region(tracer, "measured", row.labels)
    margin = 2 * values.std(ddof=1) / np.sqrt(SUBJECTS)
    low, high = row.population_range
    assert low - margin <= values.mean() <= high + margin


@pytest.mark.parametrize(("tracer", "row"), _tested_rows())
def test_regional_spread_is_that_of_people(cohort: Cohort, tracer: str, row) -> None:
    if set(row.labels) <= set(simulated_tracers()[tracer].reference_region.labels):
        pytest.skip("the reference region is 1 by definition")
    values = cohort.region(tracer, "noise_free", row.labels)
    coefficient = values.std(ddof=1) / values.mean()
    assert 0.02 < coefficient < 0.45


def test_reference_region_measures_one(cohort: Cohort) -> None:
    for kind in ("measured", "noise_free", "visible"):
        values = cohort.region("pib", kind, simulated_tracers()["pib"].reference_region.labels)
        np.testing.assert_allclose(values, 1, atol=1e-4)


def test_tau_follows_the_braak_stages(cohort: Cohort) -> None:
    composites, tau = simulated_tracers()["tau"].composites, cohort.latents["tau"].to_numpy()
    stages = np.stack(
        [cohort.region("tau", "noise_free", composites[f"braak_{s}"]) for s in ("1_2", "3_4", "5_6")]
    )
    low, middle, high = tau < 0.1, (tau > 0.1) & (tau < 0.5), tau > 0.5
    assert min(low.sum(), middle.sum(), high.sum()) >= 5
    early = stages[:, middle].mean(axis=1) - stages[:, low].mean(axis=1)
    late = stages[:, high].mean(axis=1) - stages[:, middle].mean(axis=1)
    assert early[0] > early[2]  # entorhinal and hippocampus fill first
    assert late[2] > early[2]  # isocortex late
    assert (stages[:, high].mean(axis=1) > stages[:, low].mean(axis=1) + 0.1).all()


def test_amyloid_positive_fraction_is_plausible(cohort: Cohort) -> None:
    tracer = simulated_tracers()["pib"]
    suvr = cohort.region("pib", "measured", tracer.composites[tracer.positivity.composite])
    interval = stats.binomtest(int((suvr > tracer.positivity.threshold).sum()), SUBJECTS).proportion_ci()
    # ADNI: about 20 % of controls to 85 % of dementia, 0.3 to 0.6 over all (Jack et al. 2010, Brain).
    assert interval.low < 0.6
    assert interval.high > 0.3


@pytest.mark.parametrize("tracer", sorted(simulated_tracers()))
def test_two_scans_of_the_same_people_agree(cohort: Cohort, tracer: str) -> None:
    composites = simulated_tracers()[tracer].composites
    repeated = replace(cohort, voxels=cohort.voxels[:REPEATED])
    for labels in composites.values():
        first = cohort.region(tracer, "measured", labels)[:REPEATED]
        retest = repeated.region(tracer, "retest", labels)
        mean_square_within = ((first - retest) ** 2).mean() / 2
        mean_square_between = 2 * ((first + retest) / 2).var(ddof=1)
        icc = (mean_square_between - mean_square_within) / (mean_square_between + mean_square_within)
        assert 0.85 < icc < 0.9999


@pytest.mark.parametrize("tracer", sorted(simulated_tracers()))
def test_invisible_share_is_the_stated_one(cohort: Cohort, tracer: str) -> None:
    """1 - r^2 of visible and noise-free regional SUVr, median over regions, with a bootstrap interval."""
    lobes = lobe_of_label()
    names = sorted(
        {base_name(n) for i, n in atlas_names().items() if lobes[i] not in {"csf", "cerebellum", "white"}}
    )
    names = [n for n in names if n not in {"unknown", "vessel", "choroid-plexus", "Accumbens-area"}]
    pooled = [tuple(n for n in atlas_names().values() if base_name(n) == name) for name in names]
    free, visible = (
        np.stack([cohort.region(tracer, kind, labels) for labels in pooled], axis=1)
        for kind in ("noise_free", "visible")
    )
    rng = np.random.default_rng(0)

    def share(rows: np.ndarray) -> float:
        return float(
            np.median(
                [1 - np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(free[rows].T, visible[rows].T, strict=True)]
            )
        )

    draws = [share(rng.integers(0, SUBJECTS, SUBJECTS)) for _ in range(200)]
    low, high = np.percentile(draws, [2.5, 97.5])
    assert low <= simulated_tracers()[tracer].how_simulated().invisible_share <= high
    assert high - low < 0.4


def test_lesions_and_ventricles_follow_their_latents(cohort: Cohort) -> None:
    latents = cohort.latents
    assert np.corrcoef(np.log(latents["lesion_ml"]), np.log(latents["lesion_image_ml"]))[0, 1] > 0.95
    assert 0.7 < (latents["lesion_image_ml"] / latents["lesion_ml"]).median() < 1.4
    assert np.corrcoef(latents["ventricle_growth"], np.log(latents["ventricle_ml"]))[0, 1] > 0.9
    assert stats.spearmanr(latents["age"], latents["ventricle_ml"]).statistic > 0.3


def test_a_subject_is_the_same_whatever_the_cohort() -> None:
    small, large = CONFIG.changed(subjects=2), CONFIG.changed(subjects=500, missing_rate=0.5)
    one, other = simulate_subject(small, 1), simulate_subject(large, 1)
    np.testing.assert_array_equal(one.t1w, other.t1w)
    np.testing.assert_array_equal(one.flair, other.flair)
    for name in one.pet:
        np.testing.assert_array_equal(one.pet[name].measured, other.pet[name].measured)
    assert not np.array_equal(one.t1w, simulate_subject(small, 0).t1w)


def test_noise_seed_changes_the_noise_alone() -> None:
    one, other = (simulate_subject(CONFIG.changed(noise_seed=seed), 0) for seed in (1, 2))
    np.testing.assert_array_equal(one.t1w, other.t1w)
    for name in one.pet:
        np.testing.assert_array_equal(one.pet[name].noise_free, other.pet[name].noise_free)
        np.testing.assert_array_equal(one.pet[name].visible, other.pet[name].visible)
        assert not np.array_equal(one.pet[name].measured, other.pet[name].measured)


def test_the_map_folds_nowhere() -> None:
    subject = simulate_subject(CONFIG, 3)
    gradients = np.stack([np.stack(np.gradient(c, GRID.voxel_size)) for c in subject.anatomy.template_mm])
    jacobian = np.linalg.det(np.moveaxis(gradients, (0, 1), (-2, -1)))
    assert jacobian[subject.anatomy.brain].min() > 0


def test_tissue_fractions_fill_the_brain() -> None:
    anatomy = simulate_subject(CONFIG, 2).anatomy
    total = anatomy.grey + anatomy.white + anatomy.csf
    assert min(anatomy.grey.min(), anatomy.white.min(), anatomy.csf.min()) >= 0
    assert total.max() < 1.02
    assert total[ndimage.binary_erosion(anatomy.brain)].mean() > 0.97


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8])
def test_missing_rate(rate: float) -> None:
    config = CONFIG.changed(missing_rate=rate)
    missing = [missing_tracers(config, index) for index in range(600)]
    tracers = len(simulated_tracers())
    assert max(len(m) for m in missing) < tracers
    count = sum(len(m) for m in missing)
    if rate == 0:
        assert count == 0
        return
    # A subject that would lack all keeps one: the expectation falls by rate^tracers a subject.
    expected = 600 * (tracers * rate - rate**tracers)
    assert abs(count - expected) < 4 * np.sqrt(600 * tracers * rate * (1 - rate))


def test_sites_enrol_whom_they_say() -> None:
    for name, site in SITES.items():
        people = [simulate_latents(SimulationConfig(site=site, grid=GRID, seed=5), i) for i in range(200)]
        ages = np.array([latents.age for latents, _, _ in people])
        low, high = site.population.age_range
        assert low <= ages.min() < ages.max() <= high
        assert {scanner.name for _, scanner, _ in people} == {scanner.name for scanner in site.scanners}
        men = sum(bool(latents.male) for latents, _, _ in people)
        assert men == 200 if name == "research" else 70 < men < 140
        assert all("LAB" not in genotype.values() for _, _, genotype in people)


def test_a_scanner_setting_is_a_dial() -> None:
    blurred = override_scanners(MIXED, psf_fwhm_mm=12.0)
    sharp = simulate_subject(CONFIG, 0).pet["pib"].noise_free
    dull = simulate_subject(CONFIG.changed(site=blurred), 0).pet["pib"].noise_free
    assert np.abs(np.diff(dull, axis=0)).mean() < 0.9 * np.abs(np.diff(sharp, axis=0)).mean()
    with pytest.raises(InputError, match="psf"):
        override_scanners(MIXED, psf=3.0)


@pytest.mark.parametrize(
    "settings",
    [{"subjects": 0}, {"missing_rate": 1.0}, {"missing_rate": -0.1}, {"seed": -1}, {"noise_seed": -2}],
)
def test_unusable_settings_are_refused(settings: dict) -> None:
    with pytest.raises(InputError):
        SimulationConfig(**settings)


def test_unknown_site_is_refused() -> None:
    with pytest.raises(InputError, match="research"):
        get_site("nowhere")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory):
    """The same small cohort written twice, with the order in which subjects were reported."""
    config = SimulationConfig(subjects=2, site=SITES["adni"], grid=GRID, seed=3, missing_rate=0.4)
    done: list[str] = []
    folder = tmp_path_factory.mktemp("cohort")
    roots = [simulate_cohort(config, folder / name, on_done=done.append) for name in ("one", "two")]
    return config, roots, done


def test_files_are_bitwise_the_same(trees) -> None:
    _, (one, two), done = trees
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert len(files) > 30
    for path in files:
        assert (one / path).read_bytes() == (two / path).read_bytes(), path
    assert done == ["sub-001", "sub-002"] * 2


def test_derivative_is_readable_and_on_the_grid(trees) -> None:
    config, (root, _), _ = trees
    visits = index_derivative(root)
    assert [files.visit for files in visits] == [Visit("001"), Visit("002")]
    for index, files in enumerate(visits):
        absent = missing_tracers(config, index)
        assert set(files.pet) == set(simulated_tracers()) - set(absent)
        for path in (files.t1w, files.flair, files.mask, *files.pet.values()):
            image = load_volume(path)
            assert GRID.matches(image.shape, image.affine)
        mask = load_volume(files.mask).get_fdata() > 0
        assert (load_volume(files.t1w).get_fdata()[~mask] == 0).all()
        assert (load_volume(files.pet[next(iter(files.pet))]).get_fdata()[~mask] != 0).any()
        for desc in ("noisefree", "visible"):
            assert set(index_derivative(root / "truth", desc)[index].pet) == set(files.pet)


def test_every_description_says_simulated(trees) -> None:
    _, (root, _), _ = trees
    sidecars = list(root.rglob("*.json"))
    assert len(sidecars) > 20
    for path in sidecars:
        assert "simulated" in path.read_text(encoding="utf-8").lower(), path
    for image in root.rglob("*.nii.gz"):
        assert json.loads(image.with_name(image.name[:-7] + ".json").read_text())["Simulated"] is True


def test_tables_name_every_participant(trees) -> None:
    config, (root, _), _ = trees
    people = pd.read_csv(root / "participants.tsv", sep="\t")
    assert list(people.columns) == ["participant_id", "age", "sex", "site", "scanner", "education"]
    latents = pd.read_csv(root / "truth" / "latents.tsv", sep="\t", keep_default_na=False)
    cognition = pd.read_csv(root / "phenotype" / "cognition.tsv", sep="\t")
    expected = ["sub-001", "sub-002"]
    assert [list(t["participant_id"]) for t in (people, latents, cognition)] == [expected] * 3
    for index, text in enumerate(latents["missing_pet"]):
        assert text == (",".join(missing_tracers(config, index)) or "n/a")


def test_an_occupied_folder_is_refused(trees) -> None:
    config, (root, _), _ = trees
    with pytest.raises(InputError, match="already holds subjects"):
        simulate_cohort(config, root)


@pytest.mark.slow
def test_two_processes_write_what_one_writes(trees, tmp_path) -> None:
    config, (root, _), _ = trees
    parallel = simulate_cohort(config, tmp_path / "parallel", n_procs=2)
    for path in root.rglob("*"):
        if path.is_file():
            assert (parallel / path.relative_to(root)).read_bytes() == path.read_bytes(), path

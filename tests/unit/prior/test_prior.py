"""The closed-form prior on small synthetic cohorts whose PET is a known function of the MRI."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from relapet.errors import InputError
from relapet.imaging.grid import GRIDS
from relapet.imaging.template import load_template
from relapet.prior.across import fit_standard, principal, weigh
from relapet.prior.anatomy import Anatomy, Lattice
from relapet.prior.config import PriorConfig
from relapet.prior.features import (
    ABSENT,
    base_images,
    cube_sizes,
    local_features,
    whole_features,
    whole_length,
)
from relapet.prior.fit import PriorFit, fit_prior
from relapet.prior.fitted import FittedPrior
from relapet.prior.samples import deal_folds

BOTH, T1W, FLAIR = ("T1w", "FLAIR"), ("T1w",), ("FLAIR",)


def _anatomy(size: int = 12, voxel_mm: float = 4.0) -> Anatomy:
    position = np.indices((size, size, size)) - (size - 1) / 2
    brain = (position**2).sum(axis=0) < (0.42 * size) ** 2
    regions = np.where(brain, 1 + (position[0] > 0) + 2 * (position[1] > 0), 0)
    return Anatomy(brain, regions.astype(np.int32), voxel_mm)


ANATOMY = _anatomy()


@dataclass
class Cohort:
    """Scans in memory."""

    mris: list[np.ndarray]
    pets: list[dict[str, np.ndarray]]
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = self.names or [f"{i:03d}" for i in range(len(self.mris))]

    def __len__(self) -> int:
        return len(self.mris)

    def subject(self, i: int) -> str:
        return self.names[i]

    def mri(self, i: int) -> np.ndarray:
        return self.mris[i]

    def pet(self, i: int) -> dict[str, np.ndarray]:
        return self.pets[i]


def _cohort(n: int = 24, seed: int = 0, anatomy: Anatomy = ANATOMY, noise: float = 0.02) -> Cohort:
    """Tau follows T1w at the voxel, PBR28 follows FLAIR; both have a little noise."""
    rng = np.random.default_rng(seed)
    shape = anatomy.brain.shape
    mris = [
        np.where(anatomy.brain, rng.uniform(-0.25, 0.25, (2, *shape)), -1).astype(np.float32)
        for _ in range(n)
    ]
    pets = []
    for mri in mris:
        errors = noise * rng.standard_normal((2, *shape))
        tau, pbr28 = 1.2 + 0.8 * mri[0] + errors[0], 0.9 - 0.5 * mri[1] + errors[1]
        pets.append(
            {
                "tau": np.where(anatomy.brain, tau, 0).astype(np.float32),
                "pbr28": np.where(anatomy.brain, pbr28, 0).astype(np.float32),
            }
        )
    return Cohort(mris, pets)


def _rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b)[ANATOMY.brain] ** 2)))


def _without(mri: np.ndarray, *channels: int) -> np.ndarray:
    changed = mri.copy()
    changed[list(channels)] = ABSENT
    return changed


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return _cohort()


@pytest.fixture(scope="module")
def fit(cohort: Cohort) -> PriorFit:
    return fit_prior(cohort, ANATOMY)


def test_linear_truth_is_found_up_to_shrinkage() -> None:
    """With many subjects, hardly any noise and the least penalty, the known coefficients come back."""
    config = PriorConfig(ridge=(1e-4,), across=())
    found = fit_prior(_cohort(150, noise=1e-3), ANATOMY, config, [BOTH]).prior
    coefficients = found.fits[BOTH, "tau"].coefficients.astype(float)
    assert coefficients[0].mean() == pytest.approx(0.8, abs=0.01)
    assert np.abs(coefficients[1:].mean(axis=1)).max() < 0.01
    fresh = _cohort(3, seed=9, noise=0)
    for mri, pet in zip(fresh.mris, fresh.pets, strict=True):
        assert _rmse(found.predict(mri, "tau"), pet["tau"]) < 0.01


def test_ridge_equals_the_textbook_at_a_voxel(cohort: Cohort) -> None:
    penalty = 0.3
    config = PriorConfig(ridge=(penalty,), across=())
    prior = fit_prior(cohort, ANATOMY, config, [BOTH]).prior
    lattice = Lattice.of(ANATOMY, 4.0)
    x = np.stack([local_features(base_images(mri, BOTH), prior.sizes, lattice) for mri in cohort.mris])
    y = np.stack([pet["tau"][ANATOMY.brain] for pet in cohort.pets])
    x, y = x.astype(float), y.astype(float)
    variance = x.var(axis=0)
    scale = np.sqrt(variance + 0.25 * variance.mean(axis=1, keepdims=True) + 1e-4)
    v = 100
    z = (x[:, :, v] - x[:, :, v].mean(axis=0)) / scale[:, v]
    gram = z.T @ z / len(z) + penalty * np.eye(z.shape[1])
    wanted = np.linalg.solve(gram, z.T @ (y[:, v] - y[:, v].mean()) / len(z)) / scale[:, v]
    np.testing.assert_allclose(prior.fits[BOTH, "tau"].coefficients[:, v], wanted, atol=1e-3)


def test_the_ridge_over_subjects_finds_what_only_the_whole_image_says() -> None:
    """A latent shifts the T1w of one half of the brain, and the PET of the other half."""
    rng = np.random.default_rng(1)
    base, latents = _cohort(60, seed=1), rng.standard_normal(60)
    left = (ANATOMY.regions % 2 == 1) & ANATOMY.brain
    right = ANATOMY.brain & ~left
    for mri, pet, latent in zip(base.mris, base.pets, latents, strict=True):
        mri[0][left] += 0.2 * latent
        pet["tau"][right] += 0.3 * latent
    train = Cohort(base.mris[:48], base.pets[:48])
    with_both = fit_prior(train, ANATOMY, inputs=[BOTH]).prior
    local_only = fit_prior(train, ANATOMY, PriorConfig(across=()), [BOTH]).prior
    errors = [
        np.mean([_rmse(prior.predict(base.mris[i], "tau"), base.pets[i]["tau"]) for i in range(48, 60)])
        for prior in (with_both, local_only)
    ]
    assert with_both.fits[BOTH, "tau"].across is not None
    assert errors[0] < 0.7 * errors[1]


def test_noise_is_not_taken_for_a_signal() -> None:
    """Where the MRI says nothing, the prediction is hardly worse than the mean map."""
    rng = np.random.default_rng(5)
    noise = _cohort(30, seed=5)
    for pet in noise.pets:
        pet["tau"] = np.where(ANATOMY.brain, rng.normal(1, 0.1, ANATOMY.brain.shape), 0).astype(np.float32)
    train = Cohort(noise.mris[:24], noise.pets[:24])
    prior = fit_prior(train, ANATOMY, inputs=[BOTH]).prior
    held_out = zip(noise.mris[24:], noise.pets[24:], strict=True)
    errors = [
        (_rmse(prior.predict(m, "tau"), p["tau"]), _rmse(prior.mean["tau"], p["tau"])) for m, p in held_out
    ]
    fitted, mean = np.mean(errors, axis=0)
    assert fitted < 1.03 * mean


def test_crossfitted_remainders_look_like_held_out_ones(cohort: Cohort, fit: PriorFit) -> None:
    fresh = _cohort(24, seed=3)
    inside = [_rmse(fit.crossfitted(i, "tau"), cohort.pets[i]["tau"]) for i in range(24)]
    outside = [
        _rmse(fit.prior.predict(m, "tau"), p["tau"]) for m, p in zip(fresh.mris, fresh.pets, strict=True)
    ]
    in_sample = [_rmse(fit.prior.predict(cohort.mris[i], "tau"), cohort.pets[i]["tau"]) for i in range(24)]
    assert np.mean(inside) == pytest.approx(np.mean(outside), rel=0.1)
    assert np.mean(in_sample) < 0.95 * np.mean(outside)


def test_crossfit_never_sees_its_own_participant(cohort: Cohort, fit: PriorFit) -> None:
    """Whatever is done to one participant's scans, the fit that predicts him stays as it is, bit for bit."""
    victim = 7
    rng = np.random.default_rng(0)
    mris, pets = list(cohort.mris), list(cohort.pets)
    mris[victim] = rng.uniform(-1, 1, mris[victim].shape).astype(np.float32)
    pets[victim] = {name: volume * 50 for name, volume in pets[victim].items()}
    changed = fit_prior(Cohort(mris, pets), ANATOMY)
    fold = int(fit.fold_of[victim])
    before, after = fit.without[fold].to_arrays(), changed.without[fold].to_arrays()
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)
    assert not np.array_equal(fit.prior.mean["tau"], changed.prior.mean["tau"])


def test_scans_of_one_participant_are_in_one_fold() -> None:
    names = [f"{i // 2}" for i in range(20)]
    folds = deal_folds(names, [frozenset({"tau"})] * 20, 5, 0)
    assert all(folds[i] == folds[i + 1] for i in range(0, 20, 2))
    assert np.bincount(folds).tolist() == [4] * 5


def test_a_rare_tracer_is_spread_over_folds() -> None:
    has = [frozenset({"tau", "pib"}) if i % 10 == 0 else frozenset({"tau"}) for i in range(50)]
    folds = deal_folds([f"{i:02d}" for i in range(50)], has, 5, 3)
    assert sorted(folds[::10]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("channels", "inputs"), [((), BOTH), ((1,), T1W), ((0,), FLAIR)])
def test_absent_inputs_pick_their_own_fit(
    cohort: Cohort, fit: PriorFit, channels: tuple[int, ...], inputs: tuple[str, ...]
) -> None:
    mri = _without(cohort.mris[0], *channels)
    assert fit.prior.inputs_for(mri, "tau") == inputs
    alone = fit_prior(cohort, ANATOMY, inputs=[inputs]).prior
    np.testing.assert_array_equal(fit.prior.predict(mri, "tau"), alone.predict(mri, "tau"))


def test_crossfitted_of_fewer_inputs_ignores_the_others(cohort: Cohort, fit: PriorFit) -> None:
    mri = _without(cohort.mris[4], 1)
    wanted = fit.without[int(fit.fold_of[4])].predict(mri, "tau")
    np.testing.assert_array_equal(fit.crossfitted(4, "tau", T1W), wanted)


def test_training_scans_without_flair_serve_the_t1w_fit(cohort: Cohort) -> None:
    mixed = Cohort([_without(m, 1) if i < 12 else m for i, m in enumerate(cohort.mris)], cohort.pets)
    prior = fit_prior(mixed, ANATOMY).prior
    everyone = fit_prior(cohort, ANATOMY, inputs=[T1W]).prior
    for name in ("coefficients", "shift"):
        ours, all_t1w = (getattr(p.fits[T1W, "tau"], name) for p in (prior, everyone))
        np.testing.assert_allclose(ours, all_t1w, atol=1e-3)
    np.testing.assert_array_equal(prior.fits[BOTH, "tau"].coefficients.shape, (9, ANATOMY.brain.sum()))


def test_tracers_come_from_the_scans_that_have_them(cohort: Cohort) -> None:
    """The mean and the fit of tau are those of the cohort of its scans alone."""
    some = [i for i in range(24) if i % 2]
    pets = [pet if i % 2 else {"pbr28": pet["pbr28"]} for i, pet in enumerate(cohort.pets)]
    prior = fit_prior(Cohort(cohort.mris, pets), ANATOMY, PriorConfig(across=()), [BOTH]).prior
    alone = Cohort([cohort.mris[i] for i in some], [{"tau": pets[i]["tau"]} for i in some])
    lone = fit_prior(alone, ANATOMY, PriorConfig(across=(), ridge=(0.3,)), [BOTH]).prior
    np.testing.assert_allclose(prior.mean["tau"], lone.mean["tau"], atol=1e-6)
    same = fit_prior(Cohort(cohort.mris, pets), ANATOMY, PriorConfig(across=(), ridge=(0.3,)), [BOTH]).prior
    mri = cohort.mris[0]
    np.testing.assert_allclose(same.predict(mri, "tau"), lone.predict(mri, "tau"), atol=2e-3)


def test_a_tracer_that_two_have_is_its_mean_map(cohort: Cohort) -> None:
    pets = [pet if i in (3, 4) else {"pbr28": pet["pbr28"]} for i, pet in enumerate(cohort.pets)]
    fit = fit_prior(Cohort(cohort.mris, pets), ANATOMY)
    mean = (pets[3]["tau"] + pets[4]["tau"]) / 2
    np.testing.assert_allclose(fit.prior.predict(cohort.mris[0], "tau"), mean, atol=1e-6)
    np.testing.assert_array_equal(fit.crossfitted(3, "tau"), pets[4]["tau"])
    assert fit.prior.inputs_for(cohort.mris[0], "pbr28") == BOTH


@pytest.mark.parametrize("n", [1, 2, 3, 9, 12])
def test_few_subjects_work(n: int) -> None:
    small = _cohort(n)
    fit = fit_prior(small, ANATOMY)
    for i in range(n):
        assert np.isfinite(fit.crossfitted(i, "tau")).all()
    assert np.isfinite(fit.prior.predict(small.mris[0], "pbr28")).all()


def test_outside_the_brain_stands_the_mean(cohort: Cohort, fit: PriorFit) -> None:
    outside = ~ANATOMY.brain
    np.testing.assert_array_equal(
        fit.prior.predict(cohort.mris[0], "tau")[outside], fit.prior.mean["tau"][outside]
    )


def test_threads_change_nothing(cohort: Cohort, fit: PriorFit, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        maps.append(fit.prior.predict_all(cohort.mri(0)))
    for tracer in maps[0]:
        assert np.array_equal(maps[0][tracer], maps[1][tracer])


def test_constant_images_do_no_harm() -> None:
    flat = _cohort(12)
    for mri in flat.mris:
        mri[:] = np.where(ANATOMY.brain, 0.1, -1)
    fit = fit_prior(flat, ANATOMY)
    np.testing.assert_allclose(fit.prior.predict(flat.mris[0], "tau"), fit.prior.mean["tau"], atol=1e-4)


def test_stored_and_loaded_bit_for_bit(cohort: Cohort, fit: PriorFit) -> None:
    again = FittedPrior.from_arrays(load(save(fit.prior.to_arrays())))
    for channels in ((), (0,), (1,)):
        mri = _without(cohort.mris[2], *channels)
        for tracer in ("tau", "pbr28"):
            np.testing.assert_array_equal(again.predict(mri, tracer), fit.prior.predict(mri, tracer))
    assert again.to_arrays().keys() == fit.prior.to_arrays().keys()


@pytest.mark.parametrize("cache_mb", [0, 512])
def test_repeats_bit_for_bit(cohort: Cohort, fit: PriorFit, cache_mb: int) -> None:
    again = fit_prior(cohort, ANATOMY, PriorConfig(cache_mb=cache_mb))
    for one, other in zip((fit.prior, *fit.without), (again.prior, *again.without), strict=True):
        arrays = other.to_arrays()
        for name, array in one.to_arrays().items():
            np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def _arrays(fit: PriorFit) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in fit.prior.to_arrays().items()}


def test_every_missing_or_broken_array_is_refused(fit: PriorFit) -> None:
    for name, array in _arrays(fit).items():
        changes = [np.stack([array, array]), array.astype(np.complex64)]
        if array.dtype.kind == "f":
            broken = array.copy()
            broken.flat[0] = np.nan
            changes.append(broken)
        for changed in changes:
            with pytest.raises(InputError, match="train again"):
                FittedPrior.from_arrays(_arrays(fit) | {name: changed})


@pytest.mark.parametrize(
    "ending", ["brain", "mean.tau", "base_mean.FLAIR", "T1w.tau.shift", "T1w.tau.coefficients"]
)
def test_missing_arrays_are_refused(fit: PriorFit, ending: str) -> None:
    arrays = _arrays(fit)
    name = next(name for name in arrays if name.endswith(ending))
    del arrays[name]
    with pytest.raises(InputError, match="train again"):
        FittedPrior.from_arrays(arrays)


def test_bad_calls_are_refused(cohort: Cohort, fit: PriorFit) -> None:
    mri = cohort.mris[0]
    with pytest.raises(InputError, match="no tracer 'fdg'"):
        fit.prior.predict(mri, "fdg")
    with pytest.raises(InputError, match="shape"):
        fit.prior.predict(mri[:, :5], "tau")
    with pytest.raises(InputError, match="neither T1w nor FLAIR"):
        fit.prior.predict(np.full_like(mri, ABSENT), "tau")
    with pytest.raises(InputError, match="not finite"):
        fit.prior.predict(np.full_like(mri, np.nan), "tau")
    with pytest.raises(InputError, match="no scans"):
        fit_prior(Cohort([], []), ANATOMY)
    broken = [dict(pet) for pet in cohort.pets]
    broken[3]["tau"] = np.full_like(broken[3]["tau"], np.nan)
    with pytest.raises(InputError, match="tau of subject 003"):
        fit_prior(Cohort(cohort.mris, broken), ANATOMY)


def test_a_finer_grid_keeps_its_coefficients_at_four_mm() -> None:
    fine = _anatomy(24, 2.0)
    smooth = _cohort(20, anatomy=fine)
    prior = fit_prior(smooth, fine, inputs=[BOTH]).prior
    assert prior.lattice.stride == 2
    assert prior.fits[BOTH, "tau"].coefficients.shape[1] == prior.lattice.voxels < fine.brain.sum() / 3
    predicted = prior.predict(smooth.mris[0], "tau")
    assert predicted.shape == fine.brain.shape
    gain = [np.mean((a - smooth.pets[0]["tau"])[fine.brain] ** 2) for a in (prior.mean["tau"], predicted)]
    assert gain[1] < 0.5 * gain[0]
    again = FittedPrior.from_arrays(prior.to_arrays())
    np.testing.assert_array_equal(again.predict(smooth.mris[0], "tau"), predicted)


def test_lattice_interpolates_linear_fields_exactly() -> None:
    fine = replace(_anatomy(24, 2.0), brain=np.ones((24, 24, 24), dtype=bool))
    lattice = Lattice.of(fine, 4.0)
    ramp = np.indices((24, 24, 24))[1].astype(np.float32)
    inner = (slice(None), slice(1, -1))
    np.testing.assert_allclose(lattice.to_grid(lattice.sample(ramp))[inner], ramp[inner], atol=1e-5)


@pytest.mark.parametrize(
    ("voxel_mm", "sizes"), [(1.0, (5, 13, 21)), (2.5, (1, 5, 9)), (3.0, (1, 5, 7)), (4.0, (1, 3, 5))]
)
def test_cubes_are_defined_in_mm(voxel_mm: float, sizes: tuple[int, ...]) -> None:
    found = cube_sizes((12.0, 20.0), 4.0, voxel_mm)
    assert all(abs(a - b) <= 2 for a, b in zip(found, sizes, strict=True))
    assert all(size % 2 for size in found)


def test_features_on_a_lattice_are_those_of_the_grid() -> None:
    fine = _anatomy(24, 2.0)
    lattice = Lattice.of(fine, 4.0)
    images = base_images(_cohort(1, anatomy=fine).mris[0], BOTH)
    everywhere = local_features(images, (1, 5, 9))
    on_lattice = local_features(images, (1, 5, 9), lattice)
    np.testing.assert_allclose(on_lattice, [lattice.sample(feature) for feature in everywhere], atol=1e-5)


def test_the_prior_reaches_over_the_rim_of_the_template() -> None:
    for grid in (GRIDS["4mm"], GRIDS["8mm"]):
        brain, template = Anatomy.of_grid(grid).brain, load_template(grid).brain
        assert brain[template].all()
        assert 1.05 < brain.sum() / template.sum() < 1.6


def test_quantiles_by_region_are_those_of_numpy() -> None:
    anatomy = Anatomy.of_grid(GRIDS["4mm"])
    assert len(anatomy.region_sizes) > 90
    mri = np.random.default_rng(0).uniform(-1, 1, (2, *anatomy.brain.shape)).astype(np.float32)
    features = whole_features(mri, BOTH, anatomy)
    assert len(features) == whole_length(BOTH, anatomy) == 11 * len(anatomy.region_sizes)
    labels = np.unique(anatomy.regions[anatomy.brain & (anatomy.regions > 0)])
    by_number = features.reshape(11, -1)
    for column in (0, 40, len(labels) - 1):
        inside = anatomy.brain & (anatomy.regions == labels[column])
        for row, (channel, share) in {0: (0, 0.1), 2: (0, 0.5), 9: (1, 0.9)}.items():
            wanted = np.quantile(mri[channel][inside], share, method="nearest")
            near = np.abs(np.sort(mri[channel][inside]) - by_number[row, column])
            assert near.min() == 0
            assert abs(wanted - by_number[row, column]) <= np.diff(np.sort(mri[channel][inside])).max()
        lesion = np.clip((mri[1][inside] - 0.2) / 0.4, 0, 1).mean()
        assert by_number[10, column] == pytest.approx(lesion, abs=1e-5)


def test_an_edge_that_no_one_had_makes_no_hot_voxel(cohort: Cohort, fit: PriorFit) -> None:
    """Beyond some SDs of what the features did in training they are not believed."""
    changed = cohort.mris[0].copy()
    place = tuple(np.argwhere(ANATOMY.brain)[200])
    changed[(0, *place)] = 1.0  # a training voxel never left -0.25 to 0.25
    far = fit.prior.predict(changed, "tau")[place]
    assert abs(far - fit.prior.mean["tau"][place]) < 4.5 * 0.8 * 0.5 / 12**0.5
    assert far - fit.prior.predict(cohort.mris[0], "tau")[place] > 0.1


def test_more_subjects_than_features_change_nothing_of_the_ridge() -> None:
    """The eigenvectors of the smaller product give those of the larger one."""
    scores = np.random.default_rng(0).standard_normal((30, 7)).astype(np.float32)
    values, vectors = principal(scores)
    np.testing.assert_allclose((vectors * values) @ vectors.T, scores @ scores.T, atol=1e-4)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(7), atol=1e-8)


def test_the_ridge_over_subjects_is_the_textbooks() -> None:
    rng = np.random.default_rng(1)
    features, remainders = rng.standard_normal((20, 9)).astype(np.float32), rng.standard_normal((20, 5))
    remainders = (remainders - remainders.mean(axis=0)).astype(np.float32)
    standard = fit_standard(features)
    assert standard is not None
    z = standard.scores(features)
    assert np.square(z).sum(axis=1).mean() == pytest.approx(1, rel=1e-5)
    weights = weigh(z, *principal(z), remainders, penalty=0.7, most=20)
    wanted = z @ np.linalg.solve(z.T @ z + 0.7 * np.eye(9), z.T @ remainders)
    np.testing.assert_allclose(z @ weights.loadings @ (weights.sums @ remainders), wanted, atol=1e-5)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relapet.data import augment
from relapet.data.augment import AugmentConfig
from relapet.data.cache import Cache
from relapet.data.data_config import DataConfig
from relapet.data.items import MeanPrior, TrainingItem, TrainingItems
from relapet.data.split import check_split, split_subjects
from relapet.data.visits import fill_cache, pick, usable_visits
from relapet.data.volumes import BACKGROUND, derivative_grid, model_to_suvr, scale_mri, suvr_to_model
from relapet.errors import InputError, VolumeError
from relapet.imaging.bids import index_derivative
from relapet.imaging.grid import GRIDS
from relapet.tracers import get_tracer, simulated_tracers

TRACERS = list(simulated_tracers().values())


def test_mri_scaling_ignores_the_unit_and_marks_the_background() -> None:
    rng = np.random.default_rng(0)
    volume = rng.gamma(4, 20, (10, 12, 14)).astype(np.float32)
    mask = np.zeros(volume.shape, dtype=bool)
    mask[2:8, 2:10, 2:12] = True
    scaled = scale_mri(volume, mask)
    np.testing.assert_allclose(scale_mri(volume * 37, mask), scaled, atol=1e-4)
    assert (scaled[~mask] == BACKGROUND).all()
    assert scaled.min() >= -1
    assert scaled.max() <= 1


def test_a_generous_mask_gives_the_scale_of_a_tight_one() -> None:
    volume = np.full((20, 20, 20), 20, np.float32)  # fluid
    volume[5:15, 5:15, 5:15] = np.random.default_rng(0).normal(100, 10, (10, 10, 10))  # tissue
    generous = np.ones(volume.shape, dtype=bool)
    tight = volume > 50
    np.testing.assert_allclose(scale_mri(volume, generous)[tight], scale_mri(volume, tight)[tight], atol=0.01)


@pytest.mark.parametrize("scaling", ["robust", "minmax"])
def test_a_constant_image_is_refused(scaling: str) -> None:
    with pytest.raises(ValueError, match="constant"):
        scale_mri(np.ones((4, 4, 4), np.float32), np.ones((4, 4, 4), dtype=bool), scaling)


def test_min_max_scaling_of_mri_takes_the_masked_volumes_range(toy_source: Path, tmp_path: Path) -> None:
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    mask = (volume > 3) & (volume < 21)
    scaled = scale_mri(volume, mask, "minmax")  # 0 outside the brain to 20
    np.testing.assert_allclose(scaled[mask], volume[mask] / 10 - 1, atol=1e-6)
    assert (scaled[~mask] == BACKGROUND).all()
    visits = index_derivative(toy_source)[:1]
    conditions = []
    for scaling in ("robust", "minmax"):  # one folder: the two must not be taken for each other
        cache = Cache(tmp_path, GRIDS["8mm"], scaling)
        fill_cache(visits, [], cache, lambda visit, problem: None)
        conditions.append(np.asarray(cache.mri(visits[0])))
    assert conditions[1].max() == 1
    assert not np.allclose(*conditions)


@pytest.mark.parametrize("tracer", TRACERS, ids=lambda t: t.name)
def test_suvr_survives_the_window(tracer) -> None:  # type: ignore[no-untyped-def]
    low, high = tracer.suvr_window
    suvr = np.linspace(low, high, 60, dtype=np.float32).reshape(3, 4, 5)
    np.testing.assert_allclose(model_to_suvr(suvr_to_model(suvr, (low, high)), (low, high)), suvr, atol=1e-5)
    assert suvr_to_model(np.full((1, 1, 1), high + 1, np.float32), (low, high)) == 1


def test_a_split_is_by_subject_and_seeded() -> None:
    subjects = [f"{i:02d}" for i in range(20)] * 2  # two sessions each
    split = split_subjects(subjects, 0.1, 0.2, seed=1)
    assert {part: len(names) for part, names in split.items()} == {"train": 14, "validation": 2, "test": 4}
    assert sorted(name for names in split.values() for name in names) == sorted(set(subjects))
    assert split == split_subjects(reversed(subjects), 0.1, 0.2, seed=1)
    assert split != split_subjects(subjects, 0.1, 0.2, seed=2)


def test_too_few_subjects_and_a_subject_on_both_sides_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        split_subjects(["01", "02"], 0.1, 0.2, seed=0)
    with pytest.raises(InputError, match="02"):
        check_split({"train": ["01", "02"], "validation": [], "test": ["02"]})


def test_each_epoch_visits_every_pair_once_in_another_order() -> None:
    epochs = [[pick(step, 0, 1, 7, seed=0) for step in range(e * 7, e * 7 + 7)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(7))
    assert epochs[0] != epochs[1]


def test_two_processes_see_what_one_with_a_larger_batch_sees() -> None:
    one = [[pick(step, slot, 2, 5, seed=3) for slot in range(2)] for step in range(10)]
    ranks = [[pick(step, rank, 2, 5, seed=3) for step in range(10)] for rank in range(2)]
    assert [list(pair) for pair in zip(*ranks, strict=True)] == one


def test_missing_scans_are_known(toy: Path, tmp_path: Path) -> None:
    visits = index_derivative(toy)
    visits[0].pet["tau"].unlink()
    visits[1].flair.unlink()  # type: ignore[union-attr]
    visits[2].t1w.unlink()  # type: ignore[union-attr]
    for path in visits[3].pet.values():
        path.unlink()
    said: list[str] = []
    usable = usable_visits(index_derivative(toy), DataConfig(), said.append)
    assert len(usable) == 5
    assert len(said) == 3
    assert "no FLAIR" in said[0]
    assert "no T1w" in said[1]
    assert "PET" in said[2]
    cache = Cache(tmp_path / "cache", GRIDS["8mm"])
    good = fill_cache(usable, TRACERS, cache, lambda visit, problem: None)
    assert len(TrainingItems(good, TRACERS, cache)) == 5 * 3 - 1
    dropping = DataConfig(augment=AugmentConfig(drop_flair=0.2))
    assert len(usable_visits(index_derivative(toy), dropping, said.append)) == 6


def test_an_input_that_is_left_out_is_background_and_not_needed(toy: Path, tmp_path: Path) -> None:
    visits = index_derivative(toy)
    visits[0].flair.unlink()  # type: ignore[union-attr]
    visits[1].t1w.unlink()  # type: ignore[union-attr]
    config, said = DataConfig(inputs=("T1w",)), []
    usable = usable_visits(index_derivative(toy), config, said.append)
    assert [files.visit.subject for files in usable] == ["01", *(f"{i:02d}" for i in range(3, 9))]
    assert "02" in said[0]
    assert "no T1w" in said[0]
    assert config.required_inputs == ("T1w",)
    cache = Cache(tmp_path / "cache", GRIDS["8mm"])
    good = fill_cache(usable[:2], TRACERS, cache, lambda visit, problem: None)
    mri = TrainingItems(good, TRACERS, cache)[3].mri
    assert (mri[1] == BACKGROUND).all()
    assert (mri[0] > BACKGROUND).any()
    assert not [path for path in cache.checksums if "FLAIR" in path]


def test_inputs_that_training_withholds_are_not_required() -> None:
    assert DataConfig(augment=AugmentConfig(drop_flair=0.3)).required_inputs == ("T1w",)
    assert DataConfig(augment=AugmentConfig(drop_flair=0.3, drop_t1w=0.3)).required_inputs == ()
    with pytest.raises(InputError, match="single input"):
        DataConfig(inputs=("FLAIR",), augment=AugmentConfig(drop_flair=0.3))


def test_min_max_scaling_uses_each_volumes_own_range(toy_source: Path, tmp_path: Path) -> None:
    visits, tau = index_derivative(toy_source)[:2], [get_tracer("tau")]
    cache = Cache(tmp_path, GRIDS["8mm"])
    good = fill_cache(visits, tau, cache, lambda visit, problem: None)
    data = TrainingItems(good, tau, cache, "minmax")
    suvr = [cache.pet(files, tau[0]).astype(np.float32) for files in good]
    for index in range(2):
        item = data[index]
        assert (item.pet.min(), item.pet.max()) == (-1, 1)
        assert item.windows[0] == (suvr[index].min(), suvr[index].max())
        np.testing.assert_allclose(model_to_suvr(item.pet[0], item.windows[0]), suvr[index], atol=1e-5)
    assert data[0].windows != data[1].windows
    expected = np.mean([[volume.min(), volume.max()] for volume in suvr], axis=0)
    np.testing.assert_allclose(data.mean_range()["tau"], expected, rtol=1e-6)


def test_a_constant_pet_cannot_be_scaled_by_its_own_range(toy: Path, tmp_path: Path) -> None:
    from relapet.imaging.nifti import save_volume

    visits, tau = index_derivative(toy)[:1], [get_tracer("tau")]
    path = visits[0].pet["tau"]
    flat = np.ones(GRIDS["8mm"].shape)
    flat[0, 0, 0] = 1 + 1e-5  # less than the cache's half precision can tell
    save_volume(path, flat, GRIDS["8mm"].affine)
    cache = Cache(tmp_path, GRIDS["8mm"])
    good = fill_cache(visits, tau, cache, lambda visit, problem: None)
    with pytest.raises(VolumeError, match=f"{path.name}: the PET is constant"):
        TrainingItems(good, tau, cache, "minmax").mean_range()


def test_pairs_come_back_as_written(toy_source: Path, tmp_path: Path) -> None:
    visits = index_derivative(toy_source)[:2]
    cache = Cache(tmp_path, GRIDS["8mm"])
    good = fill_cache(visits, TRACERS, cache, lambda visit, problem: None)
    data = TrainingItems(good, TRACERS, cache)
    item = data[0]
    import nibabel as nib

    suvr = np.asarray(nib.load(visits[0].pet[item.tracers[0].name]).dataobj)
    np.testing.assert_allclose(model_to_suvr(item.pet[0], item.windows[0]), suvr, atol=2e-3)
    assert item.mri.shape == (2, *GRIDS["8mm"].shape)
    means = data.mean_suvr()
    assert set(means) == {"tau", "pib", "pbr28"}
    other = np.asarray(nib.load(visits[1].pet["tau"]).dataobj)
    mine = np.asarray(nib.load(visits[0].pet["tau"]).dataobj)
    np.testing.assert_allclose(means["tau"], (other + mine) / 2, atol=2e-3)


def test_a_changed_file_is_read_anew(toy: Path, tmp_path: Path) -> None:
    from relapet.imaging.nifti import save_volume

    visits = index_derivative(toy)[:1]
    tau = get_tracer("tau")
    fill_cache(visits, [tau], Cache(tmp_path, GRIDS["8mm"]), lambda visit, problem: None)
    changed = np.ones(GRIDS["8mm"].shape)
    changed[0, 0, 0] = 2
    save_volume(visits[0].pet["tau"], changed, GRIDS["8mm"].affine)
    cache = Cache(tmp_path, GRIDS["8mm"])
    fill_cache(visits, [tau], cache, lambda visit, problem: None)
    np.testing.assert_array_equal(np.asarray(cache.pet(visits[0], tau)), changed)


def test_an_unreadable_visit_is_named_and_the_others_go_on(toy: Path, tmp_path: Path) -> None:
    visits = index_derivative(toy)[:3]
    path = visits[1].pet["tau"]
    path.write_bytes(path.read_bytes()[:1000])
    problems: dict[str, str | None] = {}
    good = fill_cache(visits, TRACERS, Cache(tmp_path, GRIDS["8mm"]), problems.__setitem__)
    assert [files.visit.subject for files in good] == ["01", "03"]
    assert problems["sub-01"] is None
    assert str(path) in str(problems["sub-02"])


def test_pet_that_is_no_suvr_and_a_cache_of_broken_numbers_are_not_trained_on(
    toy: Path, tmp_path: Path
) -> None:
    from relapet.imaging.nifti import save_volume

    visits, cache = index_derivative(toy)[:2], Cache(tmp_path, GRIDS["8mm"])
    path = visits[0].pet["tau"]
    save_volume(path, np.linspace(0, 1e6, 24**3).reshape(24, 24, 24), GRIDS["8mm"].affine)
    problems: dict[str, str | None] = {}
    good = fill_cache(visits, TRACERS, cache, problems.__setitem__)
    assert [files.visit.subject for files in good] == ["02"]
    assert "values up to 1e+06, which are no SUVr" in str(problems["sub-01"])
    written = next(path for path in tmp_path.glob("*.npy") if np.load(path).ndim == 3)
    broken = np.load(written)
    broken[0, 0, 0] = np.nan
    np.save(written, broken)
    fill_cache(visits, TRACERS, Cache(tmp_path, GRIDS["8mm"]), problems.__setitem__)
    assert np.isfinite(np.load(written)).all()


def test_a_foreign_grid_is_named(toy: Path) -> None:
    from relapet.imaging.nifti import save_volume

    files = index_derivative(toy)[0]
    save_volume(files.t1w, np.ones((9, 9, 9)), np.eye(4))  # type: ignore[arg-type]
    with pytest.raises(VolumeError, match="none of relapet's grids"):
        derivative_grid(files)


def item_of(
    mri: np.ndarray, pet: np.ndarray, prior: np.ndarray | None = None, personal: bool = False
) -> TrainingItem:
    tau = get_tracer("tau")
    prior = None if prior is None else prior[None]
    return TrainingItem(
        "sub-01 tau", mri, prior, personal, pet[None], (True,), (tau,), (tau.suvr_window,), 4.0
    )


def drawn(config: AugmentConfig) -> augment.AugmentDraw:
    return augment.draw(config, np.random.default_rng(1))


def test_augmentation_is_a_draw_and_an_application() -> None:
    rng = np.random.default_rng(0)
    mri = rng.uniform(-0.9, 0.9, (2, 6, 7, 8)).astype(np.float32)
    mri[:, 0] = BACKGROUND
    pet = rng.uniform(-1, 1, (6, 7, 8)).astype(np.float32)
    item = item_of(mri, pet)
    same = augment.apply(item, drawn(AugmentConfig()))
    np.testing.assert_allclose(same.mri, mri, atol=1e-6)
    np.testing.assert_array_equal(same.pet[0], pet)
    flipped = augment.apply(item, drawn(AugmentConfig(flip_probability=1)))
    np.testing.assert_allclose(flipped.mri[:, ::-1], mri, atol=1e-6)
    np.testing.assert_array_equal(flipped.pet[0, ::-1], pet)
    varied = augment.apply(item, drawn(AugmentConfig(contrast=0.3)))
    assert not np.allclose(varied.mri, mri)
    assert (varied.mri[:, 0] == BACKGROUND).all()
    np.testing.assert_array_equal(varied.pet[0], pet)
    dropped = augment.apply(item, drawn(AugmentConfig(drop_flair=1)))
    assert (dropped.mri[1] == BACKGROUND).all()
    np.testing.assert_allclose(dropped.mri[0], mri[0], atol=1e-6)
    alone = mri.copy()
    alone[0] = BACKGROUND
    kept = augment.apply(item_of(alone, pet), drawn(AugmentConfig(drop_flair=1)))
    np.testing.assert_allclose(kept.mri, alone, atol=1e-6)  # FLAIR is all there is


@pytest.mark.parametrize("personal", [False, True])
def test_a_random_shift_moves_mri_and_pet_and_a_prior_only_if_it_is_personal(personal: bool) -> None:
    mri = np.full((2, 20, 20, 20), BACKGROUND, np.float32)
    mri[:, 8:12, 8:12, 8:12] = 0.5
    draw = augment.draw(AugmentConfig(shift_mm=8), np.random.default_rng(0))
    moved = augment.apply(item_of(mri, mri[0], mri[0], personal), draw)
    np.testing.assert_allclose(moved.mri[0], moved.pet[0])
    np.testing.assert_array_equal(moved.prior[0], moved.pet[0] if personal else mri[0])

    def centre(volume: np.ndarray) -> np.ndarray:
        weight = volume - BACKGROUND
        return np.array([(weight * axis).sum() / weight.sum() for axis in np.indices(volume.shape)])

    shift_mm = np.array(draw.matrix)[:, 3]
    np.testing.assert_allclose((centre(mri[0]) - centre(moved.pet[0])) * 4, shift_mm, atol=0.1)


def test_all_tracers_together_mark_those_that_a_visit_lacks(toy: Path, tmp_path: Path) -> None:
    index_derivative(toy)[0].pet["pib"].unlink()
    cache = Cache(tmp_path / "cache", GRIDS["8mm"])
    good = fill_cache(index_derivative(toy)[:2], TRACERS, cache, lambda visit, problem: None)
    items = TrainingItems(good, TRACERS, cache)
    items.prior = MeanPrior(items.mean_suvr())
    items.hold_together()
    assert len(items) == 2
    lacking = [tracer.name for tracer in TRACERS].index("pib")
    assert [i for i, there in enumerate(items[0].present) if not there] == [lacking]
    assert (items[0].pet[lacking] == BACKGROUND).all()
    assert items[0].prior.shape == items[0].pet.shape == (3, *GRIDS["8mm"].shape)
    assert items.name(0) == "sub-01 " + " ".join(t.name for t in TRACERS if t.name != "pib")

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from relapet.evaluation.scores.image_metrics import METRICS, ScanPair, score

WINDOW = (0.0, 3.5)


@pytest.fixture
def pair() -> ScanPair:
    rng = np.random.default_rng(0)
    brain = np.zeros((30, 32, 28), bool)
    brain[8:22, 9:23, 8:20] = True
    real = ndimage.gaussian_filter(rng.normal(1.2, 2, brain.shape), 1).astype(np.float32)
    return ScanPair(real, (real + rng.normal(0, 0.1, brain.shape)).astype(np.float32), brain, WINDOW)


def whole(pair: ScanPair, **changes) -> ScanPair:
    return ScanPair(
        **({"real": pair.real, "synthetic": pair.synthetic, "brain": pair.brain, "window": WINDOW} | changes)
    )


def test_the_table_names_every_metric_with_unit_direction_and_source():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.unit
        assert metric.source
        assert metric.better in ("higher", "lower", "one")
        assert metric.compute.__doc__


def test_psnr_and_errors_equal_scikit_image_on_the_masked_voxels(pair):
    real, synthetic = pair.real[pair.brain], pair.synthetic[pair.brain]
    scores = score(pair)
    mse = mean_squared_error(real, synthetic)
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(real, synthetic, data_range=3.5), rel=1e-6)
    assert scores["rmse"] == pytest.approx(math.sqrt(mse), rel=1e-6)
    assert scores["mae"] == pytest.approx(np.abs(real - synthetic).mean(), rel=1e-5)
    assert scores["nrmse"] == pytest.approx(math.sqrt(mse) / real.mean(), rel=1e-5)


def test_ssim_equals_scikit_image_averaged_in_the_mask(pair):
    full = structural_similarity(
        pair.real.astype(float), pair.synthetic.astype(float), data_range=3.5, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False, full=True,
    )[1]  # fmt: skip
    assert score(pair)["ssim"] == pytest.approx(full[pair.brain].mean(), rel=1e-9)


def test_ssim_at_one_voxel_is_the_formula_with_an_11_voxel_gaussian_window(pair):
    centre = np.array([14, 15, 13])
    box = tuple(slice(c - 5, c + 6) for c in centre)
    weight = np.exp(-((np.indices((11, 11, 11)) - 5) ** 2).sum(axis=0) / (2 * 1.5**2))
    weight /= weight.sum()
    x, y = pair.real[box].astype(float), pair.synthetic[box].astype(float)
    mx, my = (weight * x).sum(), (weight * y).sum()
    vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
    cov = (weight * (x - mx) * (y - my)).sum()
    c1, c2 = (0.01 * 3.5) ** 2, (0.03 * 3.5) ** 2
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert pair.ssim_map[tuple(centre)] == pytest.approx(expected, rel=1e-9)


def test_target_ssim_averages_the_same_map_in_the_target_only(pair):
    target = np.zeros_like(pair.brain)
    target[10:14, 12:16, 10:14] = True
    scored = whole(pair, target=target)
    assert score(scored)["ssim_target"] == pytest.approx(pair.ssim_map[target].mean())
    assert math.isnan(score(pair)["ssim_target"])


def test_an_identical_volume_is_perfect_on_every_metric(pair):
    scores = score(whole(pair, synthetic=pair.real.copy(), target=pair.brain))
    perfect = {name: {"higher": 1.0, "lower": 0.0, "one": 1.0}[m.better] for name, m in METRICS.items()}
    perfect |= {"psnr": math.inf, "psnr_released": math.inf}
    assert scores == pytest.approx(perfect, abs=1e-12)


def test_background_does_not_touch_the_voxelwise_scores_but_does_touch_the_released_ones(pair):
    far = np.ones_like(pair.brain)
    far[2:-2, 2:-2, 2:-2] = False  # further than the SSIM window from the mask
    changed = score(whole(pair, synthetic=np.where(far, 9, pair.synthetic).astype(np.float32)))
    before = score(pair)
    assert changed == pytest.approx(before, nan_ok=True)
    empty = np.zeros((60, 60, 60), bool)
    empty[:30, :32, :28] = pair.brain
    place = [np.zeros(empty.shape, np.float32) for _ in range(2)]
    for volume, source in zip(place, (pair.real, pair.synthetic), strict=True):
        volume[:30, :32, :28] = source - min(pair.real.min(), pair.synthetic.min())
    larger = score(ScanPair(place[0], place[1], empty, WINDOW))
    assert larger["mae"] == pytest.approx(before["mae"])
    assert larger["psnr_released"] > before["psnr_released"] + 3  # background is easy
    assert larger["mae_released"] < before["mae_released"] / 2


def test_released_scoring_hides_a_loss_of_scale(pair):
    positive = np.where(pair.brain, pair.real - pair.real[pair.brain].min(), 0).astype(np.float32)
    halved = score(whole(pair, real=positive, synthetic=positive / 2))
    assert halved["ssim_released"] == pytest.approx(1)
    assert halved["mae_released"] == pytest.approx(0, abs=1e-6)
    assert halved["mae"] == pytest.approx(positive[pair.brain].mean() / 2, rel=1e-5)


def test_a_constant_shift_is_exactly_the_error_and_costs_no_realism(pair):
    scores = score(whole(pair, synthetic=pair.real + np.float32(0.25)))
    assert scores["mae"] == pytest.approx(0.25, rel=1e-5)
    assert scores["rmse"] == pytest.approx(0.25, rel=1e-5)
    assert scores["psnr"] == pytest.approx(20 * math.log10(3.5 / 0.25), rel=1e-5)
    assert scores["gradient_ratio"] == pytest.approx(1, rel=1e-5)
    assert scores["spectrum_distance"] == pytest.approx(0, abs=1e-3)


def test_doubling_the_contrast_is_a_spectral_distance_of_6_db(pair):
    mean = pair.real[pair.brain].mean()
    scores = score(whole(pair, synthetic=(2 * (pair.real - mean) + mean).astype(np.float32)))
    assert scores["spectrum_distance"] == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert scores["gradient_ratio"] == pytest.approx(2, rel=1e-5)


def test_blur_gains_psnr_over_a_noisy_volume_but_loses_realism():
    rng = np.random.default_rng(1)
    brain = np.zeros((40, 40, 40), bool)
    brain[6:34, 6:34, 6:34] = True
    clean = 1 + ndimage.gaussian_filter(rng.normal(0, 6, brain.shape), 2)
    scan, other_scan = (clean + rng.normal(0, 0.2, brain.shape) for _ in range(2))  # test and retest
    blurred = ndimage.gaussian_filter(other_scan, 1.5)
    retest = score(ScanPair(scan.astype("f4"), other_scan.astype("f4"), brain, WINDOW))
    blur = score(ScanPair(scan.astype("f4"), blurred.astype("f4"), brain, WINDOW))
    assert blur["psnr"] > retest["psnr"] + 1
    assert blur["spectrum_distance"] > retest["spectrum_distance"] + 5
    assert blur["gradient_ratio"] < 0.7
    assert retest["gradient_ratio"] == pytest.approx(1, abs=0.02)


def test_goodness_points_the_same_way_for_every_direction():
    values = np.array([0.5, 1.0, 4.0])
    assert np.argmax(METRICS["psnr"].goodness(values)) == 2
    assert np.argmax(METRICS["mae"].goodness(values)) == 0
    assert np.argsort(METRICS["gradient_ratio"].goodness(values)).tolist() == [2, 0, 1]


def test_volumes_thinner_than_the_window_have_no_ssim():
    rng = np.random.default_rng(0)
    thin = rng.random((6, 20, 20), dtype=np.float32)
    scores = score(ScanPair(thin, thin * 0.9, np.ones(thin.shape, bool), WINDOW))
    assert math.isnan(scores["ssim"])
    assert math.isnan(scores["ssim_released"])
    assert math.isfinite(scores["mae"])

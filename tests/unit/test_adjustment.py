"""What validation says of the network's share and of the samples' spread, and what synthesis makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relapet.adjustment import _PRIOR_SCANS, _Seen, fit_adjustment
from relapet.errors import InputError
from relapet.messages import Silent
from relapet.run_contents import Adjustment
from relapet.runs import RunFolder
from relapet.synthesis.synthesizer import _adjusted


def seen(told: float, spread: float, n: int) -> _Seen:
    """A network that tells ``told`` times the truth, and samples of ``spread`` times the error that is left."""
    rng = np.random.default_rng(0)
    facts = _Seen()
    for _ in range(n):
        left = rng.normal(size=40)
        facts.left.append(left)
        facts.told.append(told * left)
        facts.gained += float((told * left) @ left)
        facts.added += float((told * left) @ (told * left))
        facts.variance.append(np.full(40, spread**2))
    return facts


def test_with_many_scans_the_share_is_that_of_least_squares_and_the_spread_that_of_the_error() -> None:
    numbers = seen(told=2.0, spread=0.5, n=2000).adjustment()
    assert numbers.trust == pytest.approx(0.5, rel=0.01)
    too_sure = seen(told=0.0, spread=0.8, n=2000).adjustment()
    assert too_sure.trust == 0  # it adds nothing
    assert too_sure.spread == pytest.approx(1 / 0.8, rel=0.02)


def test_few_scans_leave_the_prior_and_the_spread_mostly_as_they_are() -> None:
    numbers = seen(told=1.0, spread=0.5, n=2).adjustment()
    assert numbers.trust == pytest.approx(2 / (2 + _PRIOR_SCANS))
    assert 1 < seen(told=0.0, spread=0.5, n=2).adjustment().spread < 1.5


def test_a_network_that_points_the_wrong_way_is_not_followed() -> None:
    assert seen(told=-1.0, spread=1.0, n=50).adjustment().trust == 0


def test_samples_lie_about_the_mean_that_is_kept() -> None:
    prior, expected = (np.full((2, 2, 2), value, np.float32) for value in (0.1, 0.3))
    samples = [expected + np.float32(0.2), expected - np.float32(0.2)]
    moved, mean = _adjusted(samples, expected, prior, Adjustment(trust=0.5, spread=1.5))
    np.testing.assert_allclose(mean, 0.2, atol=1e-6)
    np.testing.assert_allclose(moved[0] - mean, 0.3, atol=1e-6)
    np.testing.assert_allclose(np.mean(moved, axis=0), mean, atol=1e-6)
    assert _adjusted(samples, expected, prior, None)[1] is expected


def test_a_model_without_a_mean_of_its_own_has_none(tiny_run: Path, toy_source: Path) -> None:
    assert fit_adjustment(RunFolder(tiny_run), toy_source, Silent()) == {}
    assert not RunFolder(tiny_run).adjustment.exists()


@pytest.mark.parametrize("text", ['{"tau": 1.0}', '{"tau": {"trust": 2, "spread": 1}}', "[]"])
def test_a_broken_file_is_named(text: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.adjustment.write_text(text)
    with pytest.raises(InputError, match=r"adjustment\.json"):
        run.read_adjustment()

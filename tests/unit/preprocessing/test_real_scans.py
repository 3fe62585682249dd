"""Brain extraction on real heads, say open_ms_data (Lesjak 2017): RELAPET_REAL_SCANS names a BIDS data set of them."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from relapet.imaging.bids import find_visits
from relapet.imaging.checks import load_anatomical
from relapet.preprocessing.brain import extract_brain, volume_litres
from relapet.preprocessing.raw import find_raw

RAW = Path(os.environ.get("RELAPET_REAL_SCANS", "none named"))
VISITS = find_visits(RAW) if RAW.is_dir() else []

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VISITS, reason="RELAPET_REAL_SCANS names no data set"),
    pytest.mark.skipif(find_spec("deepbet") is None, reason="deepbet is not installed"),
    pytest.mark.skipif(find_spec("ants") is None, reason="ANTsPy is not installed"),
]


@pytest.mark.parametrize("visit", VISITS, ids=lambda visit: visit.stem)
def test_a_real_head_has_a_brain_of_a_brains_size(visit):
    raw = find_raw(RAW, visit)
    t1w = load_anatomical(raw.t1w)
    mask = extract_brain(t1w, str(raw.t1w))
    assert mask.shape == t1w.shape
    assert 1.0 < volume_litres(mask, t1w) < 1.7

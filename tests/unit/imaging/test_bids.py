"""Names, sidecars and the choice of visits."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from relapet.errors import InputError
from relapet.imaging.bids import Visit, choose_visits, sidecar_path, write_image, write_table
from relapet.tracers import get_tracer

VISITS = [Visit("01", "a"), Visit("01", "b"), Visit("02", "a"), Visit("03")]
ROOT, TAU = Path("/data"), get_tracer("tau")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (Visit("01").t1w(ROOT), "sub-01/anat/sub-01_space-MNI152NLin2009aSym_desc-preproc_T1w.nii.gz"),
        (Visit("01", "a").mask(ROOT, None), "sub-01/ses-a/anat/sub-01_ses-a_desc-brain_mask.nii.gz"),
        (
            Visit("01").voi_table(ROOT, TAU, "synth", "T1w"),
            "sub-01/pet/sub-01_trc-AV1451_space-T1w_meas-SUVR_seg-DK_desc-synth_suvr.tsv",
        ),
        (
            Visit("01").transform(ROOT, "PET", "T1w", ".mat", TAU),
            "sub-01/pet/sub-01_trc-AV1451_from-PET_to-T1w_mode-image_xfm.mat",
        ),
        (
            Visit("01").path(ROOT, "anat", "", ".json", desc="positions"),
            "sub-01/anat/sub-01_desc-positions.json",
        ),
    ],
)
def test_entities_stand_in_the_order_of_bids(path: Path, name: str) -> None:
    assert path.relative_to(ROOT).as_posix() == name


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".tsv"])
def test_a_sidecar_lies_beside_its_file(ending: str) -> None:
    assert sidecar_path(Path(f"/data/sub-01_T1w{ending}")) == Path("/data/sub-01_T1w.json")


def test_an_image_and_a_table_with_their_sidecars(tmp_path: Path) -> None:
    for dtype, stored in ((float, np.float32), (bool, np.uint8), (np.int16, np.int16)):
        write_image(tmp_path / "a.nii.gz", np.ones((2, 3, 4), dtype), np.eye(4), {"Type": "Brain"})
        assert nib.load(tmp_path / "a.nii.gz").get_data_dtype() == stored
    assert json.loads((tmp_path / "a.json").read_text()) == {"Type": "Brain"}
    write_image(tmp_path / "b.nii.gz", np.ones((2, 3, 4)), np.eye(4), None)
    assert not (tmp_path / "b.json").exists()
    table = pd.DataFrame({"name": ["x", "y"], "mean": [1.23456789, None]})
    write_table(tmp_path / "c.tsv", table, {"mean": {"Units": "SUVR"}}, "%.3g")
    assert (tmp_path / "c.tsv").read_bytes() == b"name\tmean\nx\t1.23\ny\tn/a\n"
    assert json.loads((tmp_path / "c.json").read_text())["mean"]["Units"] == "SUVR"


@pytest.mark.parametrize(
    ("participants", "sessions", "chosen"),
    [
        (None, None, VISITS),
        (["sub-01", "03"], None, [VISITS[0], VISITS[1], VISITS[3]]),
        (None, ["ses-a"], [VISITS[0], VISITS[2]]),
        (["01"], ["b"], [VISITS[1]]),
    ],
)
def test_visits_are_chosen_by_label(participants, sessions, chosen) -> None:
    assert choose_visits(VISITS, participants, ROOT, sessions) == chosen


@pytest.mark.parametrize(
    ("participants", "sessions", "words"),
    [
        (["01", "99", "98"], None, "no participant 98, 99; it has 01, 02, 03"),
        (None, ["c"], "no session c; it has a, b"),
        (["02"], ["b"], "no session b of these participants; it has a"),
        (["03"], ["a"], "it has none"),
        ([], None, "no participant among an empty list; it has 01"),
    ],
)
def test_a_label_that_is_not_there_is_told_with_those_that_are(participants, sessions, words) -> None:
    with pytest.raises(InputError, match=words) as error:
        choose_visits(VISITS, participants, ROOT, sessions)
    assert str(error.value).startswith("/data has no")

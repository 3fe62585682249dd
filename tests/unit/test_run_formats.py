"""Run folders of format 1 are read as if this version had written them."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from relapet.errors import InputError
from relapet.imaging.bids import Visit
from relapet.run_formats import present_manifest, present_settings
from relapet.synthesis.synthesizer import Synthesizer

OLD = {
    "method": {
        "name": "rela",
        "prediction": "x0",
        "residual": True,
        "residual_sd": 0.1,
        "generator": {"channels": [8, 8], "condition_channels": 3, "tracer_slots": 5},
        "discriminator": {"kind": "conditional", "tracer_slots": 5, "told_timestep": True},
    },
    "data": {"template": True},
}


def test_what_was_counted_by_hand_is_left_out_and_the_template_is_the_mean_prior() -> None:
    given = copy.deepcopy(OLD)
    present = present_settings(given)
    assert given == OLD  # not changed in place
    assert present["data"] == {"prior": "mean"}
    assert "residual" not in present["method"]
    assert present["method"]["generator"] == {"channels": [8, 8]}
    assert present["method"]["discriminator"] == {"kind": "conditional", "timestep_conditioned": True}
    assert present_settings(present) == present
    manifest = present_manifest({"run_format": 1}, OLD)
    assert (manifest["prior"], manifest["tracer_slots"]) == ("mean", 5)


def test_what_can_no_longer_be_done_is_said() -> None:
    beside = copy.deepcopy(OLD)
    beside["method"]["residual"] = False
    with pytest.raises(InputError, match="predicts x0 beside a template"):
        present_settings(beside)


def test_a_run_folder_of_format_1_gives_the_same_map(
    tiny_run: Path, toy_source: Path, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(tiny_run, tmp_path / "old"))
    manifest = json.loads((old / "manifest.json").read_text())
    slots = manifest.pop("tracer_slots")
    del manifest["prior"]
    (old / "manifest.json").write_text(json.dumps(manifest | {"run_format": 1}))
    settings = yaml.safe_load((old / "config.yaml").read_text())
    settings["data"]["template"] = settings["data"].pop("prior") == "mean"
    settings["data"].pop("linear")
    settings["method"] |= {"residual": True}
    settings["method"]["generator"] |= {"condition_channels": 3, "tracer_slots": slots}
    settings["method"]["discriminator"]["tracer_slots"] = slots
    (old / "config.yaml").write_text(yaml.safe_dump(settings))
    visit = Visit("01")
    images = [nib.load(path) for path in (visit.t1w(toy_source), visit.flair(toy_source))]
    maps = [Synthesizer.from_run(run)(*images, tracer="tau", samples=1).mean for run in (tiny_run, old)]
    np.testing.assert_array_equal(*(np.asarray(image.dataobj) for image in maps))

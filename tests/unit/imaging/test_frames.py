"""PET timing, decay and units, against closed forms."""

import json

import numpy as np
import pytest

from relapet.errors import SubjectError
from relapet.imaging.frames import choose_frames, decay_factor, read_sidecar, unit_of
from relapet.tracers import get_tracer

TAU = get_tracer("tau")  # window 80 to 100 min


def sidecar(starts_min, durations_min, **extra):
    return {
        "Units": "Bq/mL",
        "InjectionStart": 0,
        "FrameTimesStart": [60 * s for s in starts_min],
        "FrameDuration": [60 * d for d in durations_min],
        "ImageDecayCorrected": True,
        **extra,
    }


def test_frames_of_the_window_weighted_by_duration(tmp_path):
    frames = choose_frames(
        sidecar([70, 75, 80, 85, 95, 100], [5, 5, 5, 10, 5, 5]), tmp_path / "a_pet.nii", 6, TAU
    )
    assert frames.index == (2, 3, 4)
    assert frames.weight == pytest.approx((0.25, 0.5, 0.25))
    assert (frames.start_minutes, frames.end_minutes, frames.covered) == pytest.approx((80, 100, 1))


def test_times_count_from_the_injection_not_from_the_scan(tmp_path):
    # The scanner's clock starts at the scan, 80 min after the injection.
    late = sidecar([0, 5, 10, 15], [5] * 4, InjectionStart=-80 * 60)
    assert choose_frames(late, tmp_path / "a_pet.nii", 4, TAU).index == (0, 1, 2, 3)
    with pytest.raises(SubjectError, match="InjectionStart"):
        choose_frames(sidecar([0, 5, 10, 15], [5] * 4), tmp_path / "a_pet.nii", 4, TAU)


def test_decay_undone_gives_the_same_mean_as_a_corrected_image(tmp_path):
    """Constant tracer, decaying counts: the mean over each frame of exp(-lambda t), times the factor, is 1."""
    starts, durations = np.array([80.0, 90.0]), np.array([10.0, 10.0])
    rate = np.log(2) / 20.4
    measured = [
        np.exp(-rate * np.linspace(s, s + d, 20001)).mean() for s, d in zip(starts, durations, strict=True)
    ]
    assert measured * decay_factor(starts, durations, 20.4) == pytest.approx([1, 1], rel=1e-4)
    raw = sidecar([80, 90], [10, 10], ImageDecayCorrected=False)
    weights = choose_frames(raw, tmp_path / "a_pet.nii", 2, TAU).weight
    rate = np.log(2) / TAU.half_life_minutes
    measured = [
        np.exp(-rate * np.linspace(s, s + d, 20001)).mean() for s, d in zip(starts, durations, strict=True)
    ]
    assert np.dot(weights, measured) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"FrameTimesStart": [0, 300]}, "outside|after injection"),
        ({"FrameTimesStart": [4800]}, "FrameTimesStart has 1 values"),
        ({"FrameTimesStart": None}, "no list FrameTimesStart"),
        ({"FrameDuration": [600, 0]}, "FrameDuration holds 0"),
        ({"InjectionStart": None}, "no number InjectionStart"),
        ({"ImageDecayCorrected": None}, "no ImageDecayCorrected"),
    ],
)
def test_wrong_times_are_told(tmp_path, change, word):
    pet = tmp_path / "sub-01_trc-AV1451_pet.nii.gz"
    with pytest.raises(SubjectError, match=word) as error:
        choose_frames({**sidecar([80, 90], [10, 10]), **change}, pet, 2, TAU)
    assert "sub-01_trc-AV1451_pet" in str(error.value)


def test_units_are_read_never_guessed(tmp_path):
    pet = tmp_path / "sub-01_trc-AV1451_pet.nii.gz"
    with pytest.raises(SubjectError, match="no sidecar"):
        read_sidecar(pet)
    path = tmp_path / "sub-01_trc-AV1451_pet.json"
    path.write_text(json.dumps({"Units": "Bq/mL"}))
    assert unit_of(read_sidecar(pet), pet) == "Bq/mL"
    assert unit_of({"Units": "g/mL"}, pet) == "SUV"
    for wrong in ({}, {"Units": "counts"}):
        with pytest.raises(SubjectError, match="Units"):
            unit_of(wrong, pet)
    path.write_text("{")
    with pytest.raises(SubjectError, match="JSON"):
        read_sidecar(pet)

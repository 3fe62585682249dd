from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from relapet.errors import SubjectError
from relapet.imaging.grid import GRIDS
from relapet.imaging.template import load_template
from relapet.imaging.template_space import brain_of_extracted, bring_to_grid

GRID = GRIDS["4mm"]
TEMPLATE = load_template(GRID)


def brain(
    scale: tuple[float, float, float], shift: tuple[float, float, float] = (0, 0, 0)
) -> nib.Nifti1Image:
    """The template's brain, smaller or displaced, on its own grid."""
    move = np.diag([*scale, 1.0])
    move[:3, 3] = shift
    return nib.Nifti1Image(TEMPLATE.t1 * TEMPLATE.brain, move @ GRID.affine)


def test_a_registered_brain_is_left_where_it_is() -> None:
    ready = bring_to_grid(brain((1, 1, 1)), brain((1, 1, 1)), None, GRID, "sub-01")
    np.testing.assert_array_equal(ready.fit, np.eye(4))
    np.testing.assert_allclose(ready.t1w, TEMPLATE.t1 * TEMPLATE.brain, atol=1e-3)


def test_a_brain_that_was_not_scaled_is_scaled_to_the_template() -> None:
    scale, shift = (0.88, 0.9, 0.85), (2.0, -3.0, 4.0)
    image = brain(scale, shift)
    ready = bring_to_grid(image, image, None, GRID, "sub-01")
    np.testing.assert_allclose(np.diag(ready.fit)[:3], 1 / np.array(scale), rtol=0.03)
    back = ready.fit @ image.affine @ np.linalg.inv(GRID.affine)  # should be close to the identity, in mm
    corners = np.array([[-60, -90, -50, 1], [60, 60, 60, 1.0]])
    np.testing.assert_allclose(corners @ back.T, corners, atol=3)
    assert (ready.mask & TEMPLATE.brain).sum() > 0.95 * TEMPLATE.brain.sum()


def test_a_displaced_brain_is_refused() -> None:
    with pytest.raises(SubjectError, match="not that of MNI"):
        bring_to_grid(brain((1, 1, 1), (0, 40, 0)), None, None, GRID, "sub-01")


def test_the_brain_of_an_extracted_image_has_no_holes_and_no_debris() -> None:
    data = np.where(TEMPLATE.brain, 100.0, 0.0).astype(np.float32)
    data[18:21, 22:25, 20:22] = 0  # a dark ventricle
    data[1, 1, 1] = 50  # ringing of a resampling
    mask = np.asarray(brain_of_extracted(nib.Nifti1Image(data, GRID.affine), "sub-01").dataobj) > 0
    assert mask[19, 23, 21]
    assert not mask[1, 1, 1]
    assert 2 * (mask & TEMPLATE.brain).sum() / (mask.sum() + TEMPLATE.brain.sum()) > 0.95


def test_a_whole_head_is_refused() -> None:
    with pytest.raises(SubjectError, match="brain_mask"):
        bring_to_grid(
            nib.Nifti1Image(np.full(GRID.shape, 100, np.float32), GRID.affine), None, None, GRID, "sub-01"
        )

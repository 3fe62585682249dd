"""Names of what preprocessing writes beside the model-ready files: native images and transforms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relapet.imaging.bids import Visit
from relapet.imaging.grid import SPACE
from relapet.preprocessing.spatial import Warp
from relapet.tracers import TracerSpec


@dataclass(frozen=True)
class Names:
    """Paths of one visit in one output folder."""

    root: Path
    visit: Visit

    def _anat(self, rest: str) -> Path:
        return self.visit.folder(self.root, "anat") / f"{self.visit.stem}_{rest}"

    @property
    def native_t1w(self) -> Path:
        """Bias-corrected T1w on its own grid, head included."""
        return self._anat("desc-preproc_T1w.nii.gz")

    @property
    def native_mask(self) -> Path:
        """Brain mask on the T1w's own grid."""
        return self._anat("desc-brain_mask.nii.gz")

    @property
    def warp(self) -> Warp:
        """T1w to template and back."""
        return Warp(
            self._anat(f"from-T1w_to-{SPACE}_mode-image_xfm.h5"),
            self._anat(f"from-{SPACE}_to-T1w_mode-image_xfm.h5"),
        )

    @property
    def flair_to_t1w(self) -> Path:
        """Rigid transform."""
        return self._anat("from-FLAIR_to-T1w_mode-image_xfm.mat")

    def pet_to_t1w(self, tracer: TracerSpec) -> Path:
        """Rigid transform of the scan's reference frame."""
        name = f"{self.visit.stem}_trc-{tracer.label}_from-PET_to-T1w_mode-image_xfm.mat"
        return self.visit.folder(self.root, "pet") / name

    def motion(self, tracer: TracerSpec) -> Path:
        """Folder of the rigid transforms of each frame to the reference frame."""
        name = f"{self.visit.stem}_trc-{tracer.label}_from-frame_to-PET_mode-image_xfm"
        return self.visit.folder(self.root, "pet") / name

    @property
    def figures(self) -> Path:
        """Folder of the subject's pictures."""
        return self.root / f"sub-{self.visit.subject}" / "figures"

    def picture(self, step: str) -> Path:
        """Picture of one step."""
        return self.figures / f"{self.visit.stem}_desc-{step}.png"

    @property
    def log(self) -> Path:
        """What happened, line by line."""
        return self.root / "logs" / f"{self.visit.stem}.log"

    @property
    def remarks(self) -> Path:
        """Problems and warnings of the latest run that worked on the visit."""
        return self.root / "logs" / f"{self.visit.stem}_remarks.json"

    @property
    def provenance(self) -> Path:
        """Inputs, settings, versions and outputs, with checksums."""
        return self.root / "logs" / f"{self.visit.stem}_provenance.json"

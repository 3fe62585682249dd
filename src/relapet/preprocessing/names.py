"""What preprocessing writes beside the model-ready files: native images, transforms, pictures and logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relapet.imaging.bids import Visit
from relapet.imaging.grid import SPACE
from relapet.preprocessing.registration import Warp
from relapet.tracers import TracerSpec


@dataclass(frozen=True)
class Names:
    """Paths of one visit in one output folder."""

    root: Path
    visit: Visit

    @property
    def native_t1w(self) -> Path:
        """Bias-corrected T1w on its own grid, head included."""
        return self.visit.t1w(self.root, None)

    @property
    def native_mask(self) -> Path:
        """Brain mask on the T1w's own grid."""
        return self.visit.mask(self.root, None)

    @property
    def warp(self) -> Warp:
        """T1w to template and back."""
        return Warp(
            self.visit.transform(self.root, "T1w", SPACE, ".h5"),
            self.visit.transform(self.root, SPACE, "T1w", ".h5"),
        )

    @property
    def flair_to_t1w(self) -> Path:
        """Rigid transform."""
        return self.visit.transform(self.root, "FLAIR", "T1w", ".mat")

    def pet_to_t1w(self, tracer: TracerSpec) -> Path:
        """Rigid transform of the scan's reference frame."""
        return self.visit.transform(self.root, "PET", "T1w", ".mat", tracer)

    def motion(self, tracer: TracerSpec) -> Path:
        """Folder of the rigid transforms of each frame to the reference frame."""
        return self.visit.transform(self.root, "frame", "PET", "", tracer)

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

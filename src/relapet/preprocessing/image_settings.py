"""The settings of preprocessing that change the images, and so decide whether a visit is up to date."""

from __future__ import annotations

from dataclasses import dataclass

from relapet.imaging.grid import Grid
from relapet.types import Json


@dataclass(frozen=True)
class ImageSettings:
    """What changes the images."""

    grid: Grid
    syn_iterations: tuple[int, ...]
    fwhm_mm: float | None
    scanner_fwhm_mm: float | None

    def as_json(self) -> Json:
        """As JSON."""
        return {
            "Grid": self.grid.name,
            "SynIterations": list(self.syn_iterations),
            "FwhmMm": self.fwhm_mm,
            "ScannerFwhmMm": self.scanner_fwhm_mm,
        }

"""How much detail synthetic PET has at each spatial frequency, beside the measured one."""

from __future__ import annotations

from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.tables import TableSpec

TABLES = (
    TableSpec(
        "spectra",
        "method and spatial frequency",
        {
            "tracer": "name",
            "method": "name, tracer_mean, a ceiling, or measured",
            "frequency_per_mm": "cycles/mm",
            "n": "subjects",
            "power_db": "mean log radial power in the brain, dB",
            "ci_low": "lower end of its 95 % interval",
            "ci_high": "upper end",
        },
    ),
)


def run(material: Material) -> Findings:
    """Mean spectra; scans whose frequencies are not those of the others are counted in a note."""
    spectra = material.scores.spectra
    notes: tuple[str, ...] = ()
    if spectra.left_out:
        notes = (
            f"{spectra.left_out} scans are not in spectra.tsv: their grid is not that of the first one, "
            "or their voxels are no cubes.",
        )
    sampling = material.results.sampling
    return Findings({"spectra": spectra.table(sampling.count, sampling.seed)}, notes=notes)

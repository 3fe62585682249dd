"""What a tracer is: read from one .toml each, validated so that a bad file is refused with the key named."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from relapet.errors import InputError
from relapet.settings import meant

Fraction = Annotated[float, Field(ge=0, le=1)]


def _expand(label: str) -> list[str]:
    """Write out the first pair of braces, then the next: a-{b,c} is a-b and a-c."""
    braces = re.search(r"\{([^{}]*)\}", label)
    if braces is None:
        return [label]
    head, tail = label[: braces.start()], label[braces.end() :]
    return [name for choice in braces[1].split(",") for name in _expand(f"{head}{choice.strip()}{tail}")]


def _expand_all(labels: Any) -> Any:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return labels  # the type check that follows names the fault
    return [name for label in labels for name in _expand(label)]


Labels = Annotated[tuple[str, ...], BeforeValidator(_expand_all), Field(min_length=1)]
"""Atlas label names; braces are written out as a shell does: ctx-{lh,rh}-insula names both sides."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ReferenceRegion(_Table):
    """The region whose mean uptake divides the image: SUVr = uptake / mean(uptake in the region)."""

    name: str
    labels: Labels
    z_max_mm: float | None = None
    """Keep only voxels below this template height (inferior cerebellar grey), mm."""
    source: str


class Positivity(_Table):
    """A scan is positive when the composite VOI's mean SUVr exceeds the threshold."""

    composite: str
    threshold: float = Field(gt=0)
    source: str


class Centiloid(_Table):
    """Centiloid = 100 (SUVr - intercept_suvr) / span_suvr (Klunk 2015, equation 1.3)."""

    composite: str
    reference_labels: Labels
    intercept_suvr: float
    span_suvr: float = Field(gt=0)
    source: str


class Genotype(_Table):
    """How a polymorphism of the target scales the simulated contrast: SUVr = 1 + contrast (SUVr - 1)."""

    gene: str
    frequency: dict[str, Fraction]
    """Share of each genotype in the population; they sum to 1."""
    contrast: dict[str, Annotated[float, Field(ge=0)]]
    """Factor on (SUVr - 1) for each genotype; 1 for the genotype that the uptake table describes."""
    spared: Labels
    """Labels whose SUVr stays as it is: fluid holds no target."""
    source: str

    @model_validator(mode="after")
    def _check(self) -> Genotype:
        if self.frequency.keys() != self.contrast.keys():
            raise ValueError("frequency and contrast must name the same genotypes")
        if abs(sum(self.frequency.values()) - 1) > 1e-6:
            raise ValueError("the frequencies must sum to 1")
        return self


class Uptake(_Table):
    """Uptake of one group of labels in the simulated cohort, relative to the reference region (SUVr)."""

    region: str
    labels: Labels
    baseline: float = Field(gt=0)
    """Mean SUVr without pathology at 60 years, as measured at a resolution of 6 mm."""
    sd: float = Field(ge=0)
    """Between-subject SD of the baseline, SUVr."""
    age_per_decade: float = 0.0
    """Change of the baseline per decade of age from 60 years, SUVr (off-target binding rises with age)."""
    pathology: float = 0.0
    """SUVr added where the region's pathology is complete (burden 1)."""
    onset: Fraction = 0.0
    """Burden of the whole brain at which this region begins to fill (Braak, Thal order); at 1 it is full."""
    population_range: tuple[float, float]
    """Range in which the measured SUVr of this region, averaged over a mixed population, must lie."""
    source: str

    @model_validator(mode="after")
    def _check(self) -> Uptake:
        if not self.population_range[0] < self.population_range[1]:
            raise ValueError("population_range: the first number must be below the second")
        if self.onset >= 1:
            raise ValueError("onset: must be below 1, where the region is full")
        return self


class Simulation(_Table):
    """How the simulated cohort makes the tracer's uptake; a tracer without it is not simulated."""

    burden: Literal["amyloid", "tau", "inflammation"]
    """Which pathology fills the regions of the uptake table."""
    invisible_share: Fraction
    """Share of the regional variance that no MRI can show."""
    genotype: Genotype | None = None
    uptake: tuple[Uptake, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Simulation:
        labels = self.labels()
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"uptake.labels: {twice[0]} stands in two regions")
        return self

    def labels(self) -> list[str]:
        """Every label that has a row."""
        return [label for row in self.uptake for label in row.labels]


class TracerSpec(_Table):
    """One tracer: names, acquisition window, reference region, VOIs, SUVr window and, if any, its simulation."""

    name: str = Field(pattern=r"^[a-z0-9]+$")
    label: str = Field(pattern=r"^[A-Za-z0-9]+$")
    """What is written as the BIDS entity trc-."""
    ligand: str
    target: str
    aliases: tuple[str, ...]
    """Other spellings taken for this tracer; case and all but letters and digits are ignored."""
    index: int = Field(ge=0)
    """Position in the model's tracer embedding; 0 PBR28, 1 PiB, 2 tau as in the published release."""
    isotope: str
    half_life_minutes: float = Field(gt=0)
    window_minutes: tuple[float, float]
    """Acquisition window after injection, minutes."""
    suvr_window: tuple[float, float]
    """SUVr mapped to [-1, 1] for the model; also the data range of PSNR and SSIM."""
    display_window: tuple[float, float]
    """SUVr range of pictures."""
    reference_region: ReferenceRegion
    composites: dict[str, Labels]
    """Name of a composite VOI to the atlas labels that it pools."""
    target_composite: str | None = None
    """Composite of the cortex in which the disease shows; image similarity is also reported inside it."""
    positivity: Positivity | None = None
    centiloid: Centiloid | None = None
    simulation: Simulation | None = None
    sources: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> TracerSpec:
        for key in ("window_minutes", "suvr_window", "display_window"):
            low, high = getattr(self, key)
            if not low < high:
                raise ValueError(f"{key}: the first number must be below the second")
        for key, part in (("positivity", self.positivity), ("centiloid", self.centiloid)):
            if part is not None and part.composite not in self.composites:
                raise ValueError(f"{key}.composite: no composite named {part.composite!r}")
        if self.target_composite is not None and self.target_composite not in self.composites:
            raise ValueError(f"target_composite: no composite named {self.target_composite!r}")
        if self.simulation is not None:
            simulated = set(self.simulation.labels())
            for key, wanted in self._named_labels().items():
                unknown = sorted(set(wanted) - simulated)
                if unknown:
                    raise ValueError(f"{key}: {unknown[0]} has no row in simulation.uptake")
        return self

    def how_simulated(self) -> Simulation:
        """How the simulated cohort makes it; raises InputError for a tracer that is not simulated."""
        if self.simulation is None:
            raise InputError(
                f"Tracer {self.name} is not simulated; add a [simulation] table to its .toml, see docs/tracers.md."
            )
        return self.simulation

    def _named_labels(self) -> dict[str, tuple[str, ...]]:
        named = {f"composites.{name}": labels for name, labels in self.composites.items()}
        named["reference_region.labels"] = self.reference_region.labels
        if self.centiloid is not None:
            named["centiloid.reference_labels"] = self.centiloid.reference_labels
        if self.simulation is not None and self.simulation.genotype is not None:
            named["simulation.genotype.spared"] = self.simulation.genotype.spared
        return named


def load_tracer(path: Path) -> TracerSpec:
    """Read and validate one tracer .toml; raises InputError naming the file and the key."""
    try:
        return TracerSpec.model_validate(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        # A check of our own over several keys has its key in the message, and stands at the table's place.
        key = ".".join(str(part) for part in first["loc"])
        fault = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {key}{': ' if key else ''}{fault}; correct it.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} is not a readable TOML file ({error}); correct it.") from error


def _plain(alias: str) -> str:
    return re.sub(r"[^a-z0-9]", "", alias.lower().removeprefix("trc-"))


def _spellings(spec: TracerSpec) -> set[str]:
    return {_plain(alias) for alias in (spec.name, spec.label, *spec.aliases)}


def index_tracers(specs: Iterable[TracerSpec]) -> dict[str, TracerSpec]:
    """Tracers by name, in the order of their index; raises InputError when two claim one name or index."""
    ordered = sorted(specs, key=lambda spec: spec.index)
    taken: dict[str, str] = {}
    for spec in ordered:
        for key in sorted({f"index {spec.index}", *_spellings(spec)}):
            if key in taken:
                raise InputError(f"Tracers {taken[key]} and {spec.name} both claim {key}; rename one.")
            taken[key] = spec.name
    return {spec.name: spec for spec in ordered}


@lru_cache(maxsize=1)
def load_tracers() -> dict[str, TracerSpec]:
    """Every packaged tracer by name, in the order of its index; refuses clashing names and indices."""
    folder = Path(str(files("relapet.tracers")))
    return index_tracers(load_tracer(path) for path in sorted(folder.glob("*.toml")))


def simulated_tracers() -> dict[str, TracerSpec]:
    """The packaged tracers that the simulated cohort makes, in the order of their index."""
    return {name: spec for name, spec in load_tracers().items() if spec.simulation is not None}


def get_tracer(alias: str) -> TracerSpec:
    """Find a tracer by name, BIDS label or alias; raises InputError listing those that there are."""
    wanted = _plain(alias)
    for spec in load_tracers().values():
        if wanted in _spellings(spec):
            return spec
    specs = load_tracers().values()
    known = ", ".join(f"{spec.name} (trc-{spec.label})" for spec in specs)
    near = meant(alias, [name for spec in specs for name in (spec.name, spec.label, *spec.aliases)])
    raise InputError(f"Unknown tracer {alias!r}; there are: {known}{near}.")

"""From latents to the SUVr of each region, and from regions to a map of activity.

The tracer's table gives *measured* regional SUVr; `components` turns them into the tissue uptake that
measures so on the undeformed template. What then differs between subjects and scanners (thin cortex, wide
ventricles, a broader point spread) changes the measured values as in life.

Each regional SUVr = visible part (a function of what marks the MRI) + hidden part. The hidden part's regional
SD is solved from a simulated population so that it makes up `invisible_share` of the variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from relapet.errors import InputError
from relapet.imaging.template import atlas_names
from relapet.simulation.anatomy import Anatomy
from relapet.simulation.components import FLUID, load_components
from relapet.simulation.latents import DRAWS, Latents, Population, burden_of, hidden_nodes, structural_model
from relapet.simulation.regions import CORTICAL_LOBES, base_name, lobe_of_label
from relapet.tracers import TracerSpec, get_tracer
from relapet.tracers.spec import Genotype
from relapet.types import Volume

Array = npt.NDArray[np.float64]

TEXTURE_SD = 0.025
"""SD, as a fraction, of the smooth random field of uptake inside regions (hidden)."""
LESION_UPTAKE = {"amyloid": -0.20, "tau": -0.05, "inflammation": 0.10}
"""Relative change of white-matter uptake inside a lesion (PiB: Goodheart et al., Neurology 2015)."""
_BASELINE_TRAIT = {"amyloid": "thickness", "tau": "t1", "inflammation": "flair"}
"""Which MRI trait of its lobe goes with the visible part of a region's baseline."""
_ANATOMY_SD = 0.03
"""SD, as a fraction, that anatomy alone (partial volume) gives a measured regional SUVr; seen on MRI."""
_LOCAL_WEIGHTS = {"brain": 0.35, "pair": 0.45, "side": 0.20}
"""How the hidden regional part divides (variance): whole brain, both sides of a region, one side."""
_POPULATION_DRAWS = 3000


@dataclass(frozen=True)
class _Table:
    """A tracer's uptake table by component."""

    baseline: Array
    sd: Array
    age: Array
    pathology: Array
    onset: Array


def _table(tracer: TracerSpec) -> _Table:
    rows = {label: row for row in tracer.how_simulated().uptake for label in row.labels}
    names = [atlas_names()[i] for i in load_components().labels]
    missing = [name for name in names if name not in rows]
    if missing:
        raise InputError(
            f"Tracer {tracer.name}: no uptake row names the label {missing[0]}; add it to its .toml."
        )
    ordered = [rows[name] for name in names]
    return _Table(
        np.array([row.baseline for row in ordered]),
        np.array([row.sd for row in ordered]),
        np.array([row.age_per_decade for row in ordered]),
        np.array([row.pathology for row in ordered]),
        np.array([row.onset for row in ordered]),
    )


def _traits(tracer: TracerSpec, latents: Latents) -> Any:
    """The MRI trait that goes with each component's baseline, standard normal, (..., C); 0 for none."""
    kind, lobes = _BASELINE_TRAIT[tracer.how_simulated().burden], lobe_of_label()
    absent = np.zeros_like(latents.traits["t1_white"])
    columns = []
    for index in load_components().labels:
        lobe = lobes[index]
        # Only cortex has a thickness: nuclei and white matter go with their T1w signal.
        name = f"t1_{lobe}" if kind == "thickness" and lobe not in CORTICAL_LOBES else f"{kind}_{lobe}"
        columns.append(latents.traits.get(name, absent))
    return np.stack(columns, axis=-1)


def regional_fill(burden: Any, onset: Array) -> Any:
    """How full each region is at a whole-brain burden: 0 up to its onset, then straight to 1; (..., C)."""
    return np.clip((np.asarray(burden)[..., None] - onset) / (1 - onset), 0, 1)


def _expected_fill(pathology: str, visible: Any, onset: Array) -> Any:
    nodes, weights = hidden_nodes(pathology)
    pairs = zip(nodes, weights, strict=True)
    return sum(
        w * regional_fill(burden_of(pathology, np.asarray(visible) + node), onset) for node, w in pairs
    )


def genotype_frequency(tracer: TracerSpec, population: Population) -> dict[str, float]:
    """Share of each genotype among the enrolled; empty for a tracer without one."""
    genotype = tracer.how_simulated().genotype
    if genotype is None:
        return {}
    kept = {
        name: share for name, share in genotype.frequency.items() if name not in population.excluded_genotypes
    }
    return {name: share / sum(kept.values()) for name, share in kept.items()}


def genotype_of(frequency: dict[str, float], uniform: Any) -> Any:
    """Genotype names for uniform draws."""
    edges = np.cumsum(list(frequency.values()))[:-1]
    return np.array(list(frequency))[np.searchsorted(edges, uniform)]


def _contrast(genotype: Genotype, frequency: dict[str, float], uniform: Any) -> tuple[Any, float]:
    """Factor on (SUVr - 1) for each uniform draw, and the population's expectation of it."""
    factors = np.vectorize(genotype.contrast.__getitem__, otypes=[float])(genotype_of(frequency, uniform))
    return np.asarray(factors), sum(share * genotype.contrast[name] for name, share in frequency.items())


def _regional(tracer: TracerSpec, population: Population, latents: Latents) -> tuple[Any, Any]:
    """Measured regional SUVr, (..., C): expected from what MRI shows, and with the hidden pathology."""
    table = _table(tracer)
    decades = (np.asarray(latents.age)[..., None] - 60) / 10
    spread = np.sqrt(1 - tracer.how_simulated().invisible_share)
    healthy = table.baseline + table.age * decades + table.sd * spread * _traits(tracer, latents)
    pathology = tracer.how_simulated().burden
    expected = healthy + table.pathology * _expected_fill(pathology, latents.visible[pathology], table.onset)
    total = healthy + table.pathology * regional_fill(latents.burden[pathology], table.onset)
    genotype = tracer.how_simulated().genotype
    if genotype is None:
        return expected, total
    own, mean = _contrast(genotype, genotype_frequency(tracer, population), latents.uniform["genotype"])
    spared = np.isin([atlas_names()[i] for i in load_components().labels], genotype.spared)
    own_factor, mean_factor = np.where(spared, 1.0, own[..., None]), np.where(spared, 1.0, mean)
    return 1 + mean_factor * (expected - 1), 1 + own_factor * (total - 1)


def _reference_weights(tracer: TracerSpec) -> Array:
    components = load_components()
    inside = [atlas_names()[i] in tracer.reference_region.labels for i in components.labels]
    weights = components.volume * np.array(inside)
    return np.asarray(weights / weights.sum())


@lru_cache(maxsize=16)
def local_sd(tracer_name: str, population: Population) -> Array:
    """SD (C,) of the hidden regional part with which the hidden share is what the tracer's table says."""
    tracer, components = get_tracer(tracer_name), load_components()
    rng = np.random.default_rng(20260000)
    latents = structural_model(
        population,
        rng.standard_normal((_POPULATION_DRAWS, len(DRAWS))),
        rng.standard_normal((_POPULATION_DRAWS, 3)),
    )
    expected, total = _regional(tracer, population, latents)
    weights = _reference_weights(tracer)
    expected = expected / (expected @ weights)[:, None]
    total = total / (total @ weights)[:, None]
    visible = expected.var(axis=0) + (_ANATOMY_SD * expected.mean(axis=0)) ** 2
    hidden = (total - expected).var(axis=0)
    from_texture = (TEXTURE_SD * components.texture_sd * expected.mean(axis=0)) ** 2
    share = tracer.how_simulated().invisible_share
    return np.asarray(np.sqrt(np.maximum(visible * share / (1 - share) - hidden - from_texture, 0)))


def _local_deviation(rng: np.random.Generator) -> Array:
    """Unit-variance deviation of each component, shared within pairs and over the brain."""
    labels = load_components().labels
    names = sorted({base_name(atlas_names()[i]) for i in labels})
    brain, pairs, sides = (
        rng.standard_normal(),
        rng.standard_normal(len(names)),
        rng.standard_normal(len(labels)),
    )
    pair = np.array([pairs[names.index(base_name(atlas_names()[i]))] for i in labels])
    share = _LOCAL_WEIGHTS
    return np.asarray(
        np.sqrt(share["brain"]) * brain + np.sqrt(share["pair"]) * pair + np.sqrt(share["side"]) * sides
    )


def regional_suvr(
    tracer: TracerSpec, population: Population, latents: Latents, rng: np.random.Generator
) -> tuple[Array, Array]:
    """One subject's measured regional SUVr (C,): expected from what MRI can show, and true."""
    expected, total = _regional(tracer, population, latents)
    return expected, total + local_sd(tracer.name, population) * _local_deviation(rng)


def activity_map(measured: Array, tracer: TracerSpec, anatomy: Anatomy, lesion: Volume) -> Volume:
    """Tissue uptake on the subject's grid, before the point spread, relative to the reference region."""
    components = load_components()
    uptake = np.maximum(components.unmix @ measured, 0.05)
    table = np.zeros(max(components.labels) + 1, dtype=np.float32)
    table[list(components.labels)] = uptake
    in_white = 1 + np.float32(LESION_UPTAKE[tracer.how_simulated().burden]) * lesion
    return np.asarray(
        anatomy.grey * table[anatomy.grey_label]
        + anatomy.white * table[anatomy.white_label] * in_white
        + anatomy.csf * table[FLUID],
        dtype=np.float32,
    )

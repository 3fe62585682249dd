"""Who a simulated subject is: a small structural model from independent draws to pathology and cognition.

Pathology has a *visible* part, which leaves its mark on the MRI (atrophy, lesions, FLAIR signal), and a
*hidden* part, which is independent of all that an MRI can show. Edges: age -> all; amyloid -> tau, lesions;
exposure -> tau, inflammation, lesions; inflammation <-> lesions; tau, amyloid -> atrophy; tau, atrophy, age,
education -> cognition. Every quantity may be a scalar (one subject) or an array (a population). No clinical
realism is claimed; the directions follow Jack et al., Lancet Neurol 2013, and Stern et al., Alzheimers Dement
2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from relapet.simulation.regions import CORTICAL_LOBES, LOBES

Array = npt.NDArray[np.float64]

PATHOLOGIES = ("amyloid", "tau", "inflammation")
HIDDEN_SHARE = {"amyloid": 0.50, "tau": 0.18, "inflammation": 0.25}
"""Share of each pathology's liability (variance) that MRI cannot show; the regional part adds the rest."""
HIDDEN_TAU_FROM_AMYLOID = 0.4
"""Correlation of hidden tau with hidden amyloid."""
SLOPE = {"amyloid": 4.0, "tau": 2.2, "inflammation": 1.4}
THRESHOLD = {"amyloid": 0.0, "tau": 1.2, "inflammation": 0.3}
"""Burden = 1 / (1 + exp(-slope (liability - threshold))): amyloid steep, tau late, inflammation gradual."""

_SCALARS = (
    "age", "sex", "exposure", "education", "amyloid", "tau", "inflammation", "lesions", "ventricles",
    "cortex", "scanner", "genotype", "memory", "executive", "mmse",
)  # fmt: skip
DRAWS = (
    *_SCALARS,
    *(f"thickness_{lobe}" for lobe in CORTICAL_LOBES),
    *(f"flair_{lobe}" for lobe in LOBES),
    *(f"t1_{lobe}" for lobe in LOBES),
)
"""Names of the independent standard normal draws of one subject, in the order of the stream."""


@dataclass(frozen=True)
class Population:
    """Who is enrolled."""

    age_mean: float
    age_sd: float
    age_range: tuple[float, float]
    male_fraction: float
    exposure_mean: float = 0.0
    """Mean years of head-impact exposure; 0 for none."""
    amyloid_shift: float = 0.0
    tau_shift: float = 0.0
    """Added to the liabilities (in SD): how a clinic's patients differ from volunteers."""
    excluded_genotypes: tuple[str, ...] = ()
    """TSPO genotypes screened out before enrolment, as PBR28 studies do with low-affinity binders."""


@dataclass(frozen=True)
class Latents:
    """What drives one subject's images (scalars), or a population's (arrays of one length)."""

    age: Any
    male: Any
    exposure: Any
    """Years of head-impact exposure."""
    education: Any
    """Years."""
    visible: dict[str, Any]
    """Pathology to the visible part of its liability (SD)."""
    hidden: dict[str, Any]
    """Pathology to the hidden part of its liability (SD)."""
    burden: dict[str, Any]
    """Pathology to its burden in [0, 1], hidden part included."""
    visible_burden: dict[str, Any]
    """Pathology to the burden expected from the visible part: what marks the MRI."""
    lesion_ml: Any
    """White-matter lesion volume, ml."""
    ventricle_growth: Any
    """Natural logarithm of ventricular volume relative to the template's."""
    cortical_loss: Any
    """Fraction of cortex lost everywhere."""
    traits: dict[str, Any]
    """MRI traits by name (thickness_<lobe>, flair_<lobe>, t1_<lobe>), standard normal."""
    uniform: dict[str, Any]
    """Uniform draws that choose the scanner and the genotype."""
    cognition: dict[str, Any]


def burden_of(pathology: str, liability: Any) -> Any:
    """Burden in [0, 1] of a liability in SD."""
    return special.expit(SLOPE[pathology] * (liability - THRESHOLD[pathology]))


def hidden_nodes(pathology: str, count: int = 15) -> tuple[Array, Array]:
    """Gauss-Hermite nodes (SD of liability) and weights for expectations over the hidden part."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes * np.sqrt(HIDDEN_SHARE[pathology]), weights / weights.sum()


def expected_burden(pathology: str, visible: Any) -> Any:
    """Burden expected from the visible part of the liability, the hidden part averaged out."""
    nodes, weights = hidden_nodes(pathology)
    return burden_of(pathology, np.asarray(visible)[..., None] + nodes) @ weights


def _visible_liabilities(
    population: Population, z: dict[str, Any], age: Any, exposure: Any
) -> dict[str, Any]:
    decades = (age - 65) / 10
    spread = {name: np.sqrt(1 - HIDDEN_SHARE[name]) for name in PATHOLOGIES}
    amyloid = population.amyloid_shift + 0.30 * decades + 0.95 * spread["amyloid"] * z["amyloid"]
    tau = (
        population.tau_shift + 0.20 * decades + 0.20 * exposure / 10 + 0.45 * amyloid
        + 0.85 * spread["tau"] * z["tau"]
    )  # fmt: skip
    inflammation = 0.10 * decades + 0.30 * exposure / 10 + 0.95 * spread["inflammation"] * z["inflammation"]
    return {"amyloid": amyloid, "tau": tau, "inflammation": inflammation}


def _cognition(z: dict[str, Any], decades: Any, education: Any, tau: Any, loss: Any) -> dict[str, Any]:
    reserve = (education - 16) / 2.5
    memory = 0.3 - 0.25 * decades - 2.2 * tau - 4.0 * loss + 0.20 * reserve + 0.55 * z["memory"]
    executive = 0.3 - 0.30 * decades - 1.4 * tau - 5.0 * loss + 0.30 * reserve + 0.60 * z["executive"]
    mmse = np.clip(np.round(28.8 + 0.3 * reserve - 9.0 * tau**1.5 - 8.0 * loss + 0.8 * z["mmse"]), 0, 30)
    return {"memory": memory, "executive": executive, "mmse": mmse}


def structural_model(population: Population, draws: Array, hidden_draws: Array) -> Latents:
    """Latents from independent standard normal draws.

    ``draws`` is (..., len(DRAWS)), ``hidden_draws`` (..., 3) in the order of PATHOLOGIES; both may carry a
    leading population axis.
    """
    z = dict(zip(DRAWS, np.moveaxis(draws, -1, 0), strict=True))
    low, high = ((edge - population.age_mean) / population.age_sd for edge in population.age_range)
    age = stats.truncnorm.ppf(
        special.ndtr(z["age"]), low, high, loc=population.age_mean, scale=population.age_sd
    )
    decades = (age - 65) / 10
    exposure = population.exposure_mean * np.exp(0.5 * z["exposure"] - 0.125)
    education = np.clip(np.round(16 + 2.5 * z["education"]), 8, 22)
    visible = _visible_liabilities(population, z, age, exposure)
    u_amyloid, u_tau, u_inflammation = np.moveaxis(hidden_draws, -1, 0)
    rho = HIDDEN_TAU_FROM_AMYLOID
    unit = {
        "amyloid": u_amyloid,
        "tau": rho * u_amyloid + np.sqrt(1 - rho**2) * u_tau,
        "inflammation": u_inflammation,
    }
    hidden = {name: np.sqrt(HIDDEN_SHARE[name]) * unit[name] for name in PATHOLOGIES}
    burden = {name: burden_of(name, visible[name] + hidden[name]) for name in PATHOLOGIES}
    visible_burden = {name: expected_burden(name, visible[name]) for name in PATHOLOGIES}
    log_lesions = (
        np.log(3.0) + 0.55 * decades + 0.10 * exposure / 10 + 0.35 * visible["amyloid"]
        + 0.55 * z["lesions"] + 0.35 * z["inflammation"]
    )  # fmt: skip
    cortical_loss = 0.05 + 0.018 * decades + 0.015 * z["cortex"]
    return Latents(
        age=age,
        male=special.ndtr(z["sex"]) < population.male_fraction,
        exposure=exposure,
        education=education,
        visible=visible,
        hidden=hidden,
        burden=burden,
        visible_burden=visible_burden,
        lesion_ml=np.clip(np.exp(log_lesions), 0.05, 60.0),
        ventricle_growth=np.clip(
            0.25 + 0.40 * decades + 0.25 * visible_burden["tau"] + 0.25 * z["ventricles"], -0.6, 1.4
        ),
        cortical_loss=cortical_loss,
        traits={name: z[name] for name in DRAWS[len(_SCALARS) :]},
        uniform={name: special.ndtr(z[name]) for name in ("scanner", "genotype")},
        cognition=_cognition(z, decades, education, burden["tau"], cortical_loss - 0.05),
    )

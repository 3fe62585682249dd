"""Settings of the closed-form prior."""

from __future__ import annotations

from pydantic import Field

from relapet.settings import Settings


class PriorConfig(Settings):
    """How the prior is fitted."""

    folds: int = Field(
        5, ge=3, le=20, description="parts of the participants that cross-fitting leaves out in turn"
    )
    seed: int = Field(0, ge=0, description="seed of the assignment of participants to folds")
    spacing_mm: float = Field(
        4.0, gt=0, description="about the spacing at which coefficients are fitted and kept, mm"
    )
    cubes_mm: tuple[float, ...] = Field(
        (12.0, 20.0), description="edges of the cubes over which local MRI features are averaged, mm"
    )
    ridge: tuple[float, ...] = Field(
        (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        min_length=1,
        description="penalties of the ridge at each voxel to choose from by held-out folds, in units of the "
        "standardised features' variance",
    )
    across: tuple[float, ...] = Field(
        (0.3, 1.0, 2.0, 4.0, 8.0),
        description="penalties of the ridge over participants to choose from by held-out folds, in units of the mean "
        "square length of their standardised features, beside leaving it out",
    )
    components: int = Field(
        16, ge=1, le=48, description="most maps of the part over participants that are kept"
    )
    min_participants: int = Field(
        10, ge=2, description="a tracer that fewer participants have is predicted by its mean map"
    )
    cache_mb: int = Field(
        512, ge=0, description="most memory for features that are not to be computed again, MB"
    )

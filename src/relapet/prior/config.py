"""Settings of the closed-form prior."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PriorConfig(BaseModel):
    """How the prior is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    kernel: tuple[float, ...] = Field(
        (0.3, 1.0, 3.0, 10.0),
        description="penalties of the kernel ridge over subjects to choose from by held-out folds, beside "
        "leaving it out",
    )
    components: int = Field(16, ge=1, le=48, description="most maps of the global part that are kept")
    projections: int = Field(
        64, ge=1, description="most directions of the whole MRI that the kernel compares"
    )
    min_participants: int = Field(
        10, ge=2, description="a tracer that fewer participants have is predicted by its mean map"
    )
    cache_mb: int = Field(
        512, ge=0, description="most memory for features that are not to be computed again, MB"
    )

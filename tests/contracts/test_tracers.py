"""Every shipped tracer loads, and a model that learns it has a place for it."""

from __future__ import annotations

import pytest

from relapet.imaging.template import atlas_names
from relapet.run_contents import tracer_slots
from relapet.tracers import TracerSpec, get_tracer, load_tracers

SPECS = list(load_tracers().values())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_it_is_found_by_every_name(spec: TracerSpec) -> None:
    assert all(
        get_tracer(alias) is spec for alias in (spec.name, spec.label, f"trc-{spec.label}", *spec.aliases)
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_model_that_learns_it_has_a_place_for_it(spec: TracerSpec) -> None:
    """Alone or beside others, and no two tracers have the same one."""
    assert spec.index < tracer_slots([spec])
    assert spec.index < tracer_slots(SPECS)
    assert [other.name for other in SPECS if other.index == spec.index] == [spec.name]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_its_regions_are_in_the_atlas(spec: TracerSpec) -> None:
    named = {label for labels in spec.composites.values() for label in labels} | set(
        spec.reference_region.labels
    )
    assert named <= set(atlas_names().values())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_it_survives_being_written_and_read(spec: TracerSpec) -> None:
    assert TracerSpec.model_validate(spec.model_dump(mode="json")) == spec

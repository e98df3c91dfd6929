"""Warnings about rain grids that are a product of the radar."""

from types import SimpleNamespace

import pytest

from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.hpc.bench.notes import rain_note


@pytest.mark.parametrize("relation", ["a", "zh_zdr", "zh"])
def test_rain_that_the_radar_computed_is_no_gauge(relation: str) -> None:
    manifest = SimpleNamespace(
        provenance={"rain": VolumeSettings(rain=relation).rain_note}, has_rain=True, variables=("zh", "zdr")
    )
    note = rain_note("qpe", manifest)
    assert note.startswith("the rain grid is a product of ")
    assert note.endswith("measure agreement with this relation, not with gauges")
    assert rain_note("nowcast", manifest) == ""


@pytest.mark.parametrize("rain", ["true_R", "as given", "none"])
def test_other_rain_gets_no_warning_without_kdp(rain: str) -> None:
    assert rain_note("qpe", SimpleNamespace(provenance={"rain": rain}, has_rain=True, variables=("zh",))) == ""

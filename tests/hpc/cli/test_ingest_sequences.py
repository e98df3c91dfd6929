"""The options of `polarcast data ingest` for gridded sequences reach the settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from polarcast.data.ingest import run
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.hpc.cli.app import app
from tests.support.grid_files import save, speckle, square

pytestmark = pytest.mark.usefixtures("one_process")


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[GridSettings]:
    """Collect the settings of calls; nothing is ingested."""
    found: list[GridSettings] = []

    def ingest(out: Path, inputs: Any, settings: run.IngestSettings, *_: Any) -> run.IngestReport:
        found.append(settings.sequences)
        return run.IngestReport(events=[0])

    monkeypatch.setattr(run, "ingest", ingest)
    return found


def _call(tmp_path: Path, *options: str) -> int:
    (tmp_path / "a.nc").touch()
    command = ["data", "ingest", str(tmp_path / "out"), str(tmp_path / "a.nc"), *options]
    return CliRunner().invoke(app, command).exit_code


def test_every_option_reaches_the_settings(tmp_path: Path, given: list[GridSettings]) -> None:
    options = "--nodata 255 --scale 0.5 --offset -32 --rows south-first --missing no-echo --units dBZ --heights 3,2"
    names = "--variable zh=DBZH --variable kdp=K"
    assert _call(tmp_path, *options.split(), *names.split()) == 0
    assert given == [
        GridSettings(
            nodata=255, scale=0.5, offset=-32, rows="south-first", missing="no-echo", units="dBZ",
            heights_km=(2.0, 3.0), names=(("kdp", "K"), ("zh", "DBZH")),
        )
    ]  # fmt: skip


def test_without_options_the_settings_are_the_defaults(tmp_path: Path, given: list[GridSettings]) -> None:
    """Archives of earlier versions resume, because new settings are at their defaults."""
    assert _call(tmp_path) == 0
    assert _call(tmp_path, "--variable", "rain") == 0
    assert given == [GridSettings(), GridSettings(variable="rain")]


@pytest.mark.parametrize(
    "options",
    [
        ("--variable", "a", "--variable", "b"), ("--variable", "zh=a", "--variable", "zh=b"), ("--variable", "vel=a"),
        ("--rows", "up"), ("--missing", "rain"), ("--nodata", "nan"), ("--scale", "inf"),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(
    options: tuple[str, ...], tmp_path: Path, given: list[GridSettings]
) -> None:
    assert _call(tmp_path, *options) != 0
    assert given == []


@pytest.mark.parametrize(("has_x", "west"), [(True, "by the x axis"), (False, "west first, assumed")])
def test_a_dry_run_tells_how_north_and_west_were_found(
    has_x: bool, west: str, tmp_path: Path, polarcast_here: Callable[..., tuple[int, str, str]]
) -> None:
    content = square(speckle((2, 32, 36)))
    file = save(content if has_x else content.drop_vars("x"), tmp_path / "a.nc")
    command = ("data", "ingest", "--dry-run", file, "--spacing-km", "1", "--workers", "1")
    code, out, _ = polarcast_here(*command)
    assert (code, "  north   by the y axis\n" in out, f"  west    {west}\n" in out) == (0, True, True)

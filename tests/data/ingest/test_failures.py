"""Any error in the job of one file is told in its line, and stops no other file."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput, Terminated
from polarcast.data.ingest import jobs, run
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.run import IngestSettings, ingest
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.ingest.volumes.gridding import Grid
from polarcast.data.workers import failures_as_bad_input, run_all
from tests.support.radar_files import Blob, Scan, write_cfradial1

SETTINGS = IngestSettings(VolumeSettings(Grid(32, 2.0)), GridSettings(tile=32, min_echo_pixels=1))
ERROR = IndexError("index 12 is out of bounds\nfor axis 0")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write two volumes, two hours apart, so that each is an event."""
    folder = tmp_path_factory.mktemp("volumes")
    blobs = (Blob(45, 12, 6, zh=48, kdp=1.0),)
    scans = [
        Scan(elevations=(0.5, 2.0, 5.0), rays=90, gates=60, blobs=blobs, time=f"2021-07-04T{hour}:00:00")
        for hour in (10, 12)
    ]
    return [write_cfradial1(folder / f"{number}.nc", scan) for number, scan in enumerate(scans)]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the jobs in this process, where errors can be planted."""
    monkeypatch.setattr(run, "run_all", lambda work, todo, workers: run_all(work, todo, 1, isolated=False))


def _plant(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, call: int = 0) -> None:
    """Let one call of a function that the jobs use raise an error."""
    real: Callable[..., Any] = getattr(jobs, name)
    calls = iter(range(1000))

    def planted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(jobs, name, planted)


@pytest.mark.parametrize(
    ("function", "error"), [("read_raw", SystemExit(3)), ("grid_volume", SystemExit(3)), ("summarize_event", ERROR)]
)
def test_an_error_in_one_volume_is_its_line(
    volumes: list[Path], function: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant(monkeypatch, function, error)
    report = ingest(tmp_path / "archive", volumes, SETTINGS)
    ((name, line),) = report.failed.items()
    assert str(volumes[0]) in name
    assert "\n" not in line
    assert type(error).__name__ in line
    assert len(open_archive(tmp_path / "archive").frames) == 1


def test_an_error_in_one_sequence_is_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, day = [], np.timedelta64(1, "D")
    for number in range(2):
        files.append(tmp_path / f"{number}.npz")
        data = np.random.default_rng(number).uniform(20, 40, (3, 32, 32)).astype(np.float32)
        times = np.datetime64("2021-07-04T10:00", "s") + np.arange(3) * np.timedelta64(360, "s") + number * day
        np.savez(files[-1], data=data, time=times, units="dBZ", dx_km=1.0)
    for function in ("open_source", "plan", "read_piece", "write_event"):
        with monkeypatch.context() as patch:
            _plant(patch, function, SystemExit(1))
            report = ingest(tmp_path / function, files, SETTINGS)
        assert len(report.failed) == 1, report
        assert report.events, function


def test_a_picture_that_fails_is_told_with_its_remedy(volumes: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "archive"
    ingest(out, volumes[:1], SETTINGS)
    (out / jobs.PICTURES).write_text("in the way", encoding="utf-8")
    report = ingest(out, volumes, replace(SETTINGS, pictures=True))
    (line,) = report.failed.values()
    assert "its picture can't be drawn" in line
    assert "without --pictures" in line
    assert report.known == [str(volumes[0])]
    assert ingest(out, volumes, SETTINGS).events == [1]


def test_signals_and_known_failures_pass() -> None:
    for error in (Terminated(), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")):
        with pytest.raises(type(error)), failures_as_bad_input("gridding failed"):
            raise error
    with pytest.raises(BadInput, match="not enough memory"), failures_as_bad_input("gridding failed"):
        raise MemoryError
    with pytest.raises(BadInput, match="no KDP"), failures_as_bad_input("gridding failed"):
        raise BadInput("no KDP")


def test_the_line_names_the_error_and_its_place() -> None:
    with pytest.raises(BadInput, match=r"^gridding failed \(ZeroDivisionError at test_failures\.py:\d+: integer"):
        failures_as_bad_input("gridding failed")(lambda: 1 // 0)()

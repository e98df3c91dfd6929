"""Tests of which times are those of the frames, and of what the note tells of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.preview import contents
from tests.support.grid_files import START, events_of, save, speckle, square

DATA = speckle((4, 36, 40))
SETTINGS = GridSettings(tile=32, min_echo_pixels=1)
MINUTES = np.arange(4) * 6.0


def _file(path: Path, attributes: dict[str, str] | None = None, **times: np.ndarray) -> Path:
    """Write a file with these times in minutes, over the frames; `bounds` are (t, 2)."""
    content = square(DATA).drop_vars("time")
    for name, minutes in times.items():
        dims = ("time",) if minutes.ndim == 1 else ("time", "nv")
        content[name] = (dims, minutes, {"units": f"minutes since {START}", **(attributes or {})})
    return save(content, path)


@pytest.mark.parametrize("names", [("start", "stop"), ("stop", "start"), ("end_time", "start_time"), ("tEnd", "begin")])
def test_of_start_and_stop_the_start_is_taken_and_told(names: tuple[str, str], tmp_path: Path) -> None:
    is_start = [name.startswith(("start", "begin")) for name in names]
    times = {name: MINUTES + (0 if first else 5) for name, first in zip(names, is_start, strict=True)}
    path = _file(tmp_path / "a.nc", **times)
    [event] = events_of(path, SETTINGS)
    assert event.times[0] == START
    start, stop = sorted(names, key=lambda name: -is_start[names.index(name)])
    assert event.note["time"]["of"] == f"{start} of each frame, not {stop}"
    [shown] = contents([path], SETTINGS, 1)
    assert shown.what["time"].endswith(f"4 frames, {start} of each frame, not {stop}")


def test_times_that_nothing_tells_apart_are_asked_for(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.nc", created=MINUTES + 20, observed=MINUTES)
    with pytest.raises(BadInput, match=r"several times of the frames: created, observed — name the one to take 'time'"):
        open_source(path, SETTINGS)
    same = _file(tmp_path / "b.nc", created=MINUTES, observed=MINUTES)
    assert open_source(same, SETTINGS).times[0] == START


def test_a_time_by_its_name_needs_no_choice(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.nc", start=MINUTES - 5, time=MINUTES, stop=MINUTES + 1)
    source = open_source(path, SETTINGS)
    assert (source.times[0], source.note.get("time")) == (START, None)


@pytest.mark.parametrize(("low", "high", "place"), [(-6, 0, "end"), (0, 6, "start"), (-3, 3, "middle"), (-1, 5, "")])
@pytest.mark.parametrize("is_declared", [False, True])
def test_the_place_in_the_interval_is_told_and_nothing_is_shifted(
    low: float, high: float, place: str, is_declared: bool, tmp_path: Path
) -> None:
    name = "edges" if is_declared else "time_bnds"
    bounds = np.stack([MINUTES + low, MINUTES + high], 1)
    content = square(DATA).assign_coords(time=("time", MINUTES, {"units": f"minutes since {START}"}))
    content[name] = (("time", "nv"), bounds)  # without units: they are those of the axis
    if is_declared:
        content.time.attrs["bounds"] = name
    [event] = events_of(save(content, tmp_path / "a.nc"), SETTINGS)
    assert event.times[0] == START
    expected: Any = f"{place} of the interval of each frame, by {name}" if place else None
    assert event.note["time"].get("of") == expected

"""`data ingest` on the command line tells what is missing, what was dropped, and of which files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.ingest import run
from polarcast.data.notes import event_notes
from polarcast.data.workers import run_all
from tests.support.grid_files import dualpol, save, speckle, times_of, write_npz
from tests.support.polar_files import Rays, code_of, write_odim_rays

pytestmark = pytest.mark.usefixtures("one_process")

Call = Callable[..., tuple[int, str, str]]
SHAPE = (4, 2, 32, 32)
FIELDS = {"zh": speckle(SHAPE), "zdr": speckle(SHAPE, 0.5, 3), "kdp": speckle(SHAPE, 0.5, 3)}
OPTIONS = ("--size", "32", "--workers", "1")
EVEN = np.arange(5.0, 360, 10)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in this process: importing the radar libraries again would take most of the time."""
    monkeypatch.setattr(run, "run_all", lambda work, jobs, workers: run_all(work, jobs, 1, isolated=False))


def _without_zdr(tmp_path: Path, *places: Any) -> Path:
    """Write a file whose ZDR (t, z, y, x) is NaN at some places."""
    zdr = FIELDS["zdr"].copy()
    for place in places:
        zdr[place] = np.nan
    return save(dualpol({**FIELDS, "zdr": zdr}, [1.0, 3.0]), tmp_path / "a.nc")


def test_the_advice_of_the_refusal_can_be_followed(tmp_path: Path, polarcast_here: Call) -> None:
    path = _without_zdr(tmp_path, np.s_[:, 1])
    command = ("data", "ingest", tmp_path / "out", path, *OPTIONS, "--heights")
    code, out, _ = polarcast_here(*command, "1,3")
    assert (code, "no ZDR at 3 km where zh has echo" in out) == (2, True)
    for name, chosen in (("fewer", ("1,3", "--variables", "zh,kdp")), ("lower", ("1",))):
        assert f"--variables {chosen[-1]}" in out or f"--heights {chosen[0]}" in out
        code, text, _ = polarcast_here("data", "ingest", tmp_path / name, path, *OPTIONS, "--heights", *chosen)
        assert (code, "missing" in text) == (0, False)
    [note] = event_notes(tmp_path / "fewer").values()
    assert note["absent"] == ["zdr", "rain_rate"]


def test_a_frame_without_a_variable_is_dropped_and_told(tmp_path: Path, polarcast_here: Call) -> None:
    path = _without_zdr(tmp_path, np.s_[2, 0], np.s_[1, :, :8])
    code, out, _ = polarcast_here("data", "ingest", tmp_path / "out", path, *OPTIONS, "--heights", "1,3")
    assert code == 0
    assert "dropped 1: frames without ZDR at 1 km where zh has echo (a.nc)\n" in out
    assert "ZDR is missing at 6% of the echo (written as 0 dB): 6% at 1 km, 6% at 3 km\n" in out
    assert "KDP" not in out
    [note] = event_notes(tmp_path / "out").values()
    assert (note["time"]["taken"], note["time"]["interpolated"]) == (3, 1)
    assert list(note["time"]["left_out"].values()) == [[note["times"][2]]]
    # A quarter of one frame of four; where one of two frames has a value, an interpolated frame has one.
    assert note["missing_of_echo"]["zdr"]["1"] == 0.0625


def test_the_record_tells_every_share(tmp_path: Path, polarcast_here: Call) -> None:
    path = _without_zdr(tmp_path, np.s_[0, 0, 0, 0])
    command = ("data", "ingest", tmp_path / "out", path, *OPTIONS, "--heights", "1,3", "--json")
    shares = json.loads(polarcast_here(*command)[1])["missing_of_echo"]
    assert shares == {"zdr": {"all": 0.0001, "1": 0.0002, "3": 0.0}, "kdp": {"all": 0.0, "1": 0.0, "3": 0.0}}


def test_a_little_is_not_worth_a_line(tmp_path: Path, polarcast_here: Call) -> None:
    path = _without_zdr(tmp_path, np.s_[0, 0, 0, 0])
    code, out, _ = polarcast_here("data", "ingest", tmp_path / "out", path, *OPTIONS, "--heights", "1,3")
    assert (code, "missing" in out) == (0, False)


def test_dropped_parts_are_told_with_their_files(tmp_path: Path, polarcast_here: Call) -> None:
    files = [write_npz(tmp_path / f"{n}.npz", speckle((1, 32, 32)), time=times_of(9, 60)[n : n + 1]) for n in range(5)]
    again = tmp_path / "again.npz"
    again.write_bytes(files[0].read_bytes())
    code, out, _ = polarcast_here("data", "ingest", tmp_path / "out", *files, again, *OPTIONS)
    assert code == 2
    assert "dropped 1: file identical to another (again.npz)\n" in out
    assert "dropped 5: stretches of time shorter than 2 frames (0.npz, 1.npz, 2.npz and 2 more)\n" in out
    record = json.loads(polarcast_here("data", "ingest", tmp_path / "out", *files, again, *OPTIONS, "--json")[1])
    assert record["dropped_from"]["stretches of time shorter than 2 frames"] == [str(file) for file in files]


def test_frames_that_are_not_used_are_told_with_their_file(tmp_path: Path, polarcast_here: Call) -> None:
    first = write_npz(tmp_path / "first.npz", speckle((3, 32, 32)))
    second = write_npz(tmp_path / "second.npz", speckle((3, 32, 32))[::-1], time=times_of(5)[2:])
    code, out, _ = polarcast_here("data", "ingest", tmp_path / "out", first, second, *OPTIONS)
    assert (code, "dropped 1: frames of the same time as another (second.npz)\n" in out) == (0, True)


@pytest.mark.parametrize(
    ("place", "text"), [((-33.7, 151.2), "at 33.7° S, 151.2° E"), ((33.65, -101.81), "at 33.65° N, 101.8° W")]
)
def test_a_dry_run_names_the_hemispheres(
    place: tuple[float, float], text: str, tmp_path: Path, polarcast_here: Call
) -> None:
    import h5py

    file = write_odim_rays(tmp_path / "a.h5", [Rays(elevation, EVEN, code_of(EVEN)) for elevation in (1.0, 9.0)])
    with h5py.File(file, "r+") as content:
        content["where"].attrs.update({"lat": place[0], "lon": place[1]})
    code, out, _ = polarcast_here("data", "ingest", "--dry-run", file, "--variables", "zh", "--workers", "1")
    assert (code, text in out) == (0, True)

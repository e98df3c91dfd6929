"""Values of ZDR and KDP that are missing where zh has echo are counted, and refused where there are none."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest import run
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.missing import FEWEST_ECHOES, frames_with_values, missing_note, total_missing
from polarcast.data.ingest.run import IngestReport, IngestSettings, ingest
from polarcast.data.ingest.volumes.frame import VolumeSettings, grid_volume
from polarcast.data.ingest.volumes.gridding import Grid
from polarcast.data.notes import event_notes
from polarcast.data.workers import run_all
from tests.support.grid_files import dualpol, events_of, save, speckle
from tests.support.radar_files import Blob, Scan, write_cfradial1

pytestmark = pytest.mark.usefixtures("one_process")

LEVELS = [1.0, 3.0]
SHAPE = (4, 2, 32, 32)
FIELDS = {"zh": speckle(SHAPE), "zdr": speckle(SHAPE, 0.5, 3), "kdp": speckle(SHAPE, 0.5, 3)}
SETTINGS = GridSettings(tile=32, min_echo_pixels=1, heights_km=(1.0, 3.0))
VOLUMES = VolumeSettings(Grid(32, 2.0, (1.0, 3.0)))


def _random(seed: int) -> np.ndarray:
    """Return (t, v, z, y, x) with NaN at a random share of the places."""
    random = np.random.default_rng(seed)
    return np.where(random.random((3, 3, 2, 9, 10)) < random.random(), np.nan, random.random((3, 3, 2, 9, 10)))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in this process: importing the radar libraries again would take most of the time."""
    monkeypatch.setattr(run, "run_all", lambda work, jobs, workers: run_all(work, jobs, 1, isolated=False))


def _without(field: str, *places: Any) -> dict[str, np.ndarray]:
    """Return the fields (t, z, y, x), one of which is NaN at some places."""
    values = FIELDS[field].copy()
    for place in places:
        values[place] = np.nan
    return {**FIELDS, field: values}


def _file(tmp_path: Path, fields: dict[str, np.ndarray], name: str = "a.nc") -> Path:
    return save(dualpol(fields, LEVELS), tmp_path / name)


def test_the_share_of_echo_without_a_value_is_in_the_note(tmp_path: Path) -> None:
    fields = _without("zdr", np.s_[:, 1, :8])
    fields["zh"] = np.where(np.arange(32) < 16, fields["zh"], -32)
    fields["kdp"] = np.where(np.arange(32) < 24, fields["kdp"], np.nan)  # of the echo none is missing
    [event] = events_of(_file(tmp_path, fields), SETTINGS)
    assert event.note["missing_of_echo"] == {"zdr": {"1": 0.0, "3": 0.25}, "kdp": {"1": 0.0, "3": 0.0}}
    assert event.note["echo_pixels"] == {"1": 4 * 32 * 16, "3": 4 * 32 * 16}
    assert not event.radar[:, 1, 1, :8].any()


@pytest.mark.parametrize(
    ("field", "place", "message"),
    [
        ("zdr", np.s_[:, 1], r"no ZDR at 3 km where zh has echo — .*--variables zh,kdp, or .*--heights 1$"),
        ("kdp", np.s_[:], r"no KDP at 1 and 3 km where zh has echo — leave it out: --variables zh,zdr$"),
    ],
)
def test_a_variable_without_any_value_at_a_level_is_refused(
    field: str, place: Any, message: str, tmp_path: Path
) -> None:
    path = _file(tmp_path, _without(field, place))
    with pytest.raises(BadInput, match=message):
        events_of(path, SETTINGS)


def test_frames_that_leave_a_gap_are_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, _without("kdp", np.s_[1:3, 0]))
    with pytest.raises(BadInput, match=r"no KDP at 1 km where zh has echo in 2 of 4 frames, first at 2021-07-04T00:06"):
        events_of(path, SETTINGS)
    assert len(events_of(path, replace(SETTINGS, max_gap_minutes=18))[0].times) == 4


@given(radar=st.integers(0, 2**32 - 1).map(_random))
def test_shares_and_frames_equal_a_direct_count(radar: np.ndarray) -> None:
    note = missing_note(radar, ("zh", "zdr", "kdp"), (1.0, 2.5))
    for z, height in enumerate(("1", "2.5")):
        echo = [pixel for frame in radar for pixel in frame[:, z].reshape(3, -1).T if np.isfinite(pixel[0])]
        assert note["echo_pixels"][height] == len(echo)
        for v, name in enumerate(("zdr", "kdp"), start=1):
            if echo:
                share = sum(bool(np.isnan(pixel[v])) for pixel in echo) / len(echo)
                assert note["missing_of_echo"][name][height] == pytest.approx(share, abs=1e-4)
    radar[1, 2, 0] = np.nan
    is_judged = bool(np.isfinite(radar[1, 0, 0]).sum() >= FEWEST_ECHOES)
    others = [bool(np.isfinite(radar[t, 0, 0]).sum() >= FEWEST_ECHOES) for t in (0, 2)]
    if is_judged and any(others):
        kept, lacking = frames_with_values(radar, ("zh", "zdr", "kdp"), (1.0, 2.5), Path("a"))
        assert (kept.tolist(), lacking) == ([True, False, True], [("kdp", 1.0)])


def test_too_little_echo_is_not_judged() -> None:
    radar = np.full((1, 2, 1, 10, 10), np.nan)
    radar[0, 0].reshape(-1)[: FEWEST_ECHOES - 1] = 30
    kept, lacking = frames_with_values(radar, ("zh", "zdr"), (1.0,), Path("a"))
    assert (kept.all(), lacking) == (True, [])


def test_shares_of_events_are_weighted_by_their_echo() -> None:
    notes = [
        {"missing_of_echo": {"zdr": {"1": 0.5, "3": 0.0}}, "echo_pixels": {"1": 100, "3": 300}},
        {"missing_of_echo": {"zdr": {"1": 0.0}}, "echo_pixels": {"1": 400, "3": 0}},
        {"times": []},
    ]
    assert total_missing(notes) == {"zdr": {"all": 0.0625, "1": 0.1, "3": 0.0}}


@dataclass(frozen=True)
class _HalfScan(Scan):
    """A scan in which one field has no values in the eastern half."""

    lacks: str = "zdr"

    def truth(self, elevation: float) -> dict[str, np.ndarray]:
        fields = super().truth(elevation)
        east = (self.azimuth < 180)[:, None]
        return {**fields, self.lacks: np.where(east, np.nan, fields[self.lacks])}


BLOBS = (Blob(90, 25, 10), Blob(270, 25, 10))
ELEVATIONS = (0.5, 3.0, 6.0)


@pytest.mark.parametrize(("lacks", "of"), [("zdr", "zdr"), ("phidp", "kdp")])
@pytest.mark.usefixtures("here")
def test_gates_without_a_value_are_counted(lacks: str, of: str, tmp_path: Path) -> None:
    """Of two equal storms, one has no ZDR, or no phase to retrieve KDP from."""
    scan = _HalfScan(ELEVATIONS, rays=120, gates=90, blobs=BLOBS, lacks=lacks)
    report = ingest(tmp_path / "out", [write_cfradial1(tmp_path / "a.nc", scan)], IngestSettings(VOLUMES))
    [note] = event_notes(tmp_path / "out").values()
    for height in ("1", "3"):
        assert note["echo_pixels"][height] > 100
        assert note["missing_of_echo"][of][height] == pytest.approx(0.5, abs=0.05)
        assert sum(shares[height] for shares in note["missing_of_echo"].values()) < 0.56
    assert report.as_record()["missing_of_echo"][of]["all"] == pytest.approx(0.5, abs=0.05)


class _BareScan(Scan):
    """A scan whose ZDR has values in no echo, but elsewhere."""

    def truth(self, elevation: float) -> dict[str, np.ndarray]:
        fields = super().truth(elevation)
        zdr = np.full(fields["zh"].shape, np.nan)
        zdr[:, :4] = 1.0
        return {**fields, "zdr": zdr}


@pytest.mark.usefixtures("here")
def test_a_volume_without_a_variable_is_dropped_and_told(tmp_path: Path) -> None:
    scans = [
        kind(ELEVATIONS, rays=120, gates=90, blobs=BLOBS, time=f"2021-07-04T12:{minute:02d}:00")
        for minute, kind in ((0, Scan), (6, _BareScan), (12, Scan))
    ]
    files = [write_cfradial1(tmp_path / f"{n}.nc", scan) for n, scan in enumerate(scans)]
    with pytest.raises(BadInput, match=r"no ZDR at 1 and 3 km where zh has echo — leave it out: --variables zh,kdp$"):
        grid_volume([files[1]], VOLUMES)
    report: IngestReport = ingest(tmp_path / "out", files, IngestSettings(VOLUMES))
    assert (report.events, list(report.failed)) == ([0], [str(files[1])])
    [note] = event_notes(tmp_path / "out").values()
    assert (len(note["times"]), note["time"]["interpolated"]) == (3, 1)

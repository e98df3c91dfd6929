"""`data ingest` of volumes on the command line: what is in each file, and where a radar stands."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.notes import event_notes
from tests.support.grid_files import speckle, write_npz
from tests.support.polar_files import Rays, code_of, write_odim_rays

pytestmark = pytest.mark.usefixtures("one_process")

Call = Callable[..., tuple[int, str, str]]
EVEN = np.arange(5.0, 360, 10)
LOW, HIGH = (Rays(elevation, EVEN, code_of(EVEN)) for elevation in (0.5, 10.0))
SMALL = ("--variables", "zh", "--rain", "none", "--heights", "1", "--size", "16", "--spacing-km", "2", "--workers", "1")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A volume in two pieces, a sequence, and a file that is neither."""
    given = tmp_path / "given"
    given.mkdir()
    pieces = [write_odim_rays(given / f"{n}.h5", [rays]) for n, rays in enumerate((LOW, HIGH))]
    times = np.datetime64("2021-07-04T12:00:00", "s") + np.arange(3) * np.timedelta64(6, "m")
    sequence = write_npz(given / "sequence.npz", speckle((3, 32, 32)), time=times)
    (given / "notes.txt").write_text("no radar", encoding="utf-8")
    return [*pieces, sequence, given / "notes.txt"]


def test_a_dry_run_tells_what_is_in_each_file(files: list[Path], tmp_path: Path, polarcast_here: Call) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = polarcast_here("data", "ingest", "--dry-run", *files, *SMALL, "--json")
    low, high, sequence, notes = json.loads(out)["files"]
    assert code == 1
    assert (low["kind"], low["volume"], high["volume"]) == ("ODIM HDF5", 1, 1)
    assert (low["sweeps"], high["sweeps"]) == ("1: 0.5°", "1: 10°")
    assert low["radar"] == "NOD:xxtst at 50° N, 8° E"
    assert (low["time"], low["fields"]) == ("2021-07-04T12:34:56", "zh (DBZH)")
    assert (sequence["kind"], sequence["volume"]) == ("sequence (npz)", 0)
    assert sequence["time"].endswith("3 frames")
    assert notes["problem"].startswith("not a radar volume in a known format")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_may_name_the_archive(files: list[Path], tmp_path: Path, polarcast_here: Call) -> None:
    code, out, _ = polarcast_here("data", "ingest", tmp_path / "archive", *files[:2], "--dry-run", *SMALL)
    assert (code, out.count("ODIM HDF5, volume 1")) == (0, 2)
    assert out.endswith("nothing was written\n")
    assert not (tmp_path / "archive").exists()
    assert polarcast_here("data", "ingest", "--dry-run", files[3], "--workers", "1")[0] == 2


def test_a_dry_run_tells_why_an_ingestion_would_leave_a_volume_out(
    files: list[Path], tmp_path: Path, polarcast_here: Call
) -> None:
    """The same options with and without `--dry-run` give the same reason and the same exit code."""
    single = files[:1]
    for given, options in ((single, SMALL), (files[:2], (*SMALL[2:], "--variables", "zh,zdr"))):
        code, out, _ = polarcast_here("data", "ingest", "--dry-run", *given, *options, "--json")
        problems = {one["problem"] for one in json.loads(out)["files"]}
        refused, told, _ = polarcast_here("data", "ingest", tmp_path / "archive", *given, *options, "--json")
        assert (code, refused) == (2, 2)
        assert problems == set(json.loads(told)["failed"].values())
        assert {one["volume"] for one in json.loads(out)["files"]} == {0}


def test_fields_of_volumes_may_be_named(files: list[Path], tmp_path: Path, polarcast_here: Call) -> None:
    import h5py

    for file in files[:2]:
        with h5py.File(file, "r+") as content:
            content["dataset1/data1/what"].attrs["quantity"] = np.bytes_("MINE")
    code, out, _ = polarcast_here("data", "ingest", tmp_path / "archive", *files[:2], *SMALL)
    assert (code, "--variable zh=NAME" in out, "present: MINE" in out) == (2, True, True)
    named = ("--variable", "zh=MINE", "--variable", "phidp=MINE")
    code, out, _ = polarcast_here("data", "ingest", tmp_path / "archive", *files[:2], *SMALL, *named)
    assert (code, "MINE is given for phidp and for zh" in out) == (2, True)
    code, out, _ = polarcast_here("data", "ingest", tmp_path / "archive", *files[:2], *SMALL, "--variable", "zh=mine")
    assert code == 0
    [note] = event_notes(tmp_path / "archive").values()
    assert note["steps"]["read"]["names"] == {"zh": "MINE"}
    assert note["steps"]["read"]["format"] == "ODIM HDF5"
    assert note["steps"]["read"]["library"].startswith("h5py ")


def test_the_place_of_a_radar_may_be_given(files: list[Path], tmp_path: Path, polarcast_here: Call) -> None:
    import h5py

    for file in files[:2]:
        with h5py.File(file, "r+") as content:
            content["where"].attrs.update({"lat": 0.0, "lon": 0.0})
    archive = tmp_path / "archive"
    code, out, _ = polarcast_here("data", "ingest", archive, *files[:2], *SMALL)
    assert (code, "no position of the radar" in out, "--site" in out) == (2, True, True)
    assert polarcast_here("data", "ingest", archive, *files[:2], *SMALL, "--site", "33.65,-101.81,1000")[0] == 0
    [note] = event_notes(archive).values()
    assert (note["site"]["latitude"], note["site"]["longitude"]) == (33.65, -101.81)


@pytest.mark.parametrize("site", ["33.65,-101.81", "0,0,0", "95,8,0", "here"])
def test_a_wrong_place_is_refused(site: str, files: list[Path], tmp_path: Path, polarcast_here: Call) -> None:
    code, _, err = polarcast_here("data", "ingest", tmp_path / "archive", *files[:2], *SMALL, "--site", site)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("polarcast: --site: ")


def test_nothing_new_is_no_success(files: list[Path], tmp_path: Path, polarcast_here: Call) -> None:
    options = ("--size", "16", "--max-gap-minutes", "1", "--workers", "1")
    code, out, _ = polarcast_here("data", "ingest", tmp_path / "archive", files[2], *options)
    assert (code, "stretches of time shorter" in out, "0 new events" in out) == (2, True, True)

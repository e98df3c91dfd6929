"""Tests of the ingestion of files into an archive: grouping, rejected files, resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import open_archive
from polarcast.data.check.archive import check_archive
from polarcast.data.errors import BadInput
from polarcast.data.groups import groups_of
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.run import IngestReport, IngestSettings, ingest
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.ingest.volumes.gridding import Grid
from polarcast.data.loading.reader import open_reader
from polarcast.data.shards.write import write_shards
from tests.support import warm
from tests.support.radar_files import Blob, Scan, write_cfradial1, write_sigmet

pytestmark = pytest.mark.acceptance

MINUTES = (0, 5, 11, 90)
COARSE = VolumeSettings(grid=Grid(size=48, spacing_km=3.0))
SETTINGS = IngestSettings(volumes=COARSE, sequences=GridSettings(tile=32, min_echo_pixels=1))


def _write_storm(folder: Path, minutes: tuple[int, ...] = MINUTES) -> list[Path]:
    """Write a storm that moves east at 1 km per minute, scanned at these minutes; SIGMET and CfRadial alternate."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, minute in enumerate(minutes):
        x = -30 + minute % 60
        place = np.rad2deg(np.arctan2(x, 30)) % 360, float(np.hypot(x, 30))
        clock = f"2021-07-04T{12 + minute // 60:02d}:{minute % 60:02d}:00"
        blobs = (Blob(*place, 12, zh=48, kdp=1.5), Blob(200, 45, 10))
        scan = Scan(elevations=(0.5, 2.0, 5.0, 9.0, 15.0), rays=120, gates=160, blobs=blobs, time=clock)
        write = write_cfradial1 if number % 2 else write_sigmet
        files.append(write(folder / f"{number:02d}.vol", scan))
    return files


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write four valid volumes."""
    return _write_storm(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="module")
def ingested(volumes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IngestReport]:
    """Ingest them together with files that can't be used."""
    folder = tmp_path_factory.mktemp("ingested")
    text = folder / "text.txt"
    text.write_text("no radar")
    cut = folder / "cut.vol"
    cut.write_bytes(volumes[0].read_bytes()[:300_000])
    single = write_sigmet(folder / "ppi.vol", Scan(elevations=(0.5,), rays=60, gates=50))
    again = folder / "again.vol"
    again.write_bytes(volumes[1].read_bytes())
    bad = [text, cut, single]
    out = folder / "archive"
    return out, ingest(out, [*bad, *volumes, again], replace(SETTINGS, pictures=True), workers=2)


def _content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_consecutive_scans_form_an_event_at_the_regular_step(ingested: tuple[Path, IngestReport]) -> None:
    out, report = ingested
    archive = open_archive(out)
    assert report.events == [0, 1]
    assert {e: len(f) for e, f in archive.frames.items()} == {0: 2, 1: 1}
    assert archive.event_note(0)["times"] == ["2021-07-04T12:00:00", "2021-07-04T12:06:00"]
    assert (archive.variables, archive.heights_km, archive.has_rain) == (("zh", "zdr", "kdp"), (1.0, 3.0, 7.0), True)
    assert archive.spacing_km == 3.0


def test_the_events_of_one_radar_and_day_are_one_group(ingested: tuple[Path, IngestReport]) -> None:
    archive = open_archive(ingested[0])
    note = archive.event_note(0)
    assert note["source"] == f"radar at {note['site']['latitude']:.2f} {note['site']['longitude']:.2f}"
    groups = groups_of(archive)
    assert set(groups.names.values()) == {f"2021-07-04 {note['source']}"}
    south, _, north, _ = groups.origins[1].place.extent or (0, 0, 0, 0)
    assert north - south == pytest.approx(48 * 3 / 111.195, abs=1e-3)


def test_unusable_files_are_reported_and_the_rest_is_ingested(ingested: tuple[Path, IngestReport]) -> None:
    reasons = {Path(file).name: reason for file, reason in ingested[1].failed.items()}
    assert set(reasons) == {"text.txt", "cut.vol", "ppi.vol"}
    assert "not a radar volume" in reasons["text.txt"]
    assert "one elevation" in reasons["ppi.vol"]
    assert ingested[1].dropped["file identical to another"] == 1
    assert all("\n" not in reason for reason in reasons.values())


def test_every_event_has_its_provenance(ingested: tuple[Path, IngestReport], volumes: list[Path]) -> None:
    import hashlib

    note = open_archive(ingested[0]).event_note(0)
    sums = [hashlib.sha256(v.read_bytes()).hexdigest() for v in volumes[:3]]
    assert [s["sha256"] for s in note["sources"]] == sums
    assert note["units"] == {"zh": "dBZ", "zdr": "dB", "kdp": "deg/km", "rain_rate": "mm/h"}
    assert note["absent"] == []
    assert note["steps"]["kdp"]["as"] == "retrieved"
    assert "Vulpiani" in note["steps"]["kdp"]["kdp"]
    assert "arm_pyart" in note["steps"]["grid"]["library"]
    assert note["time"] == note["time"] | {"taken": 1, "interpolated": 1}
    assert "product" in note["rain"]
    assert 0.9 < note["quality"]["coverage"] <= 1
    assert note["quality"]["echo_share"] > 0.01


def test_an_interpolated_storm_has_the_right_position(ingested: tuple[Path, IngestReport]) -> None:
    """The storm is always 30 km north of the radar, and 24 km west at 12:06, when there was no scan."""
    zh = open_archive(ingested[0]).read_radar(0, 1)[0, 0]
    row, column = np.nonzero(zh[:20] >= 35)
    assert (24 - row.mean()) * 3 == pytest.approx(30, abs=2)
    assert (column.mean() - 24) * 3 == pytest.approx(-24, abs=2.5)


def test_pictures_are_drawn(ingested: tuple[Path, IngestReport]) -> None:
    assert sorted(p.name for p in (ingested[0] / "pictures").iterdir()) == ["data_dir_000.png", "data_dir_001.png"]


def test_the_archive_passes_the_checks_and_can_be_sharded_and_read(
    ingested: tuple[Path, IngestReport], tmp_path: Path
) -> None:
    archive = open_archive(ingested[0])
    assert all(f.ok for f in check_archive(archive))
    manifest = write_shards(archive, tmp_path / "shards")
    assert (manifest.spacing_km, manifest.time_step_minutes) == (3.0, 6.0)
    batch = open_reader(manifest, "test", variables=("zh", "kdp"), heights_km=(1.0, 7.0), frames=2).read([0])
    np.testing.assert_array_equal(batch.radar[0, 1, 0, 0].numpy(), archive.read_radar(0, 1)[0, 0].astype(np.float16))


def test_known_files_are_skipped_and_new_ones_are_added(
    ingested: tuple[Path, IngestReport], volumes: list[Path], tmp_path: Path
) -> None:
    import shutil

    out = tmp_path / "archive"
    shutil.copytree(ingested[0], out)
    later = _write_storm(tmp_path / "later", (300,))
    report = ingest(out, [*volumes, *later], SETTINGS, workers=1)
    assert report.known == [str(v) for v in volumes]
    assert report.events == [2]
    assert open_archive(out).event_note(2)["times"] == ["2021-07-04T17:00:00"]
    before, after = _content(ingested[0]), _content(out)
    assert {k: after[k] for k in before} == before


def test_other_options_and_foreign_folders_are_rejected(
    ingested: tuple[Path, IngestReport], volumes: list[Path], tmp_path: Path
) -> None:
    other = replace(SETTINGS, volumes=replace(COARSE, min_dbz=0.0))
    with pytest.raises(BadInput, match=r"min_dbz is 5\.0 in the archive, 0\.0 now"):
        ingest(ingested[0], volumes, other)
    (tmp_path / "mine.txt").write_text("other content")
    with pytest.raises(BadInput, match="not empty and was not made by ingest"):
        ingest(tmp_path, volumes, SETTINGS)


def test_volumes_and_sequences_in_one_call_are_rejected(volumes: list[Path], tmp_path: Path) -> None:
    _sequence(tmp_path / "s.npz")
    with pytest.raises(BadInput, match="in one call"):
        ingest(tmp_path / "out", [volumes[0], tmp_path / "s.npz"], SETTINGS)
    assert not (tmp_path / "out").exists()


def test_no_archive_is_left_without_events(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no radar")
    assert ingest(tmp_path / "out", [tmp_path / "text"], SETTINGS).failed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inputs", ["absent", "empty"])
def test_missing_inputs_are_rejected(tmp_path: Path, inputs: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"no such file|nothing to ingest"):
        ingest(tmp_path / "out", [tmp_path / inputs], SETTINGS)


def _sequence(path: Path, **extra: object) -> Path:
    data = np.random.default_rng(0).uniform(0.5, 30, (4, 40, 70)).astype(np.float32)
    times = np.datetime64("2021-07-04T00:00", "s") + np.arange(4) * np.timedelta64(360, "s")
    np.savez(path, **{"data": data, "time": times, "units": "mm/h", "dx_km": 1.0, **extra})
    return path


def test_every_tile_of_a_sequence_becomes_an_event(tmp_path: Path) -> None:
    out = tmp_path / "archive"
    report = ingest(out, [_sequence(tmp_path / "s.npz")], SETTINGS)
    archive = open_archive(out)
    assert report.events == [0, 1]
    assert (archive.variables, archive.has_rain) == (("zh",), True)
    assert archive.event_note(0)["absent"] == ["zdr", "kdp"]
    assert archive.provenance()["derived"]["zh"].startswith("Z = 200")
    findings = {f.where: f for f in check_archive(archive)}
    assert "zh was computed from the rain" in findings["rain units"].found
    again = ingest(out, [tmp_path / "s.npz"], SETTINGS)
    assert (again.events, again.known) == ([], [str(tmp_path / "s.npz")])


def test_rain_and_reflectivity_need_separate_archives(tmp_path: Path) -> None:
    inputs = [_sequence(tmp_path / "a.npz"), _sequence(tmp_path / "b.npz", units="dBZ")]
    report = ingest(tmp_path / "archive", inputs, SETTINGS)
    assert len(report.events) == 2
    assert "ingest it into another archive" in report.failed[str(inputs[1])]


@pytest.mark.journey
@pytest.mark.parametrize("waits_for", [".ingest/*.npz", "events/*.json"])
def test_a_killed_ingestion_resumes_and_the_archive_is_the_same(
    ingested: tuple[Path, IngestReport], volumes: list[Path], waits_for: str, tmp_path: Path
) -> None:
    out = tmp_path / "archive"
    options = ["--size", "48", "--spacing-km", "3", "--workers", "1", "--pictures"]
    command = [sys.executable, "-m", "polarcast.hpc.cli", "data", "ingest", str(out), *map(str, volumes), *options]
    process = warm.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(out.glob(waits_for)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = warm.run([*command, "--json"], check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert report["failed"] == {}
    assert not (out / ".ingest").exists()
    expected, found = _content(ingested[0]), _content(out)
    assert found == expected

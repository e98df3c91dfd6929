"""Fetch and ingest the volumes of a suite. Finished stages are not run again, and need no network."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from polarcast.data.cores import usable_cores
from polarcast.data.errors import BadInput, WorkFailed, not_installed
from polarcast.data.files import read_json, write_json
from polarcast.data.notes import read_archive_note, write_archive_note
from polarcast.hpc.utils.progress import ProgressBoard

if TYPE_CHECKING:
    from polarcast.data.fetch.networks import Period
    from polarcast.data.fetch.run import FetchReport, FetchSettings
    from polarcast.data.ingest.report import IngestReport
    from polarcast.data.ingest.volumes.frame import VolumeSettings

RECORD = "volumes.json"
"""File beside the archive: what was fetched for it. It is written when the last volume has come."""
FETCHED = "fetched"
"""Key of `archive.json`: what the archive was fetched as. It is written when the last event is."""
FETCH_STAGE, INGEST_STAGE = "fetch", "ingest"
_STAGES = {
    "days listed": ("list", "days"),
    "volumes to look at": ("look", "volumes"),
    "volumes looked at": ("rank", "volumes"),
    "files": (FETCH_STAGE, "volumes"),
    "sums": ("hash", "volumes"),
    "headers": ("headers", "volumes"),
    "volumes": (INGEST_STAGE, "volumes"),
    "events": ("write", "events"),
}
"""Stages of fetch and ingest, and the names and units by which the board shows them."""
_SECONDS = {FETCH_STAGE: 1.0, INGEST_STAGE: 6.0}
"""Rough time of a volume on one connection, and on one core."""
_VOLUMES_AN_HOUR = 12
_LIMITS = {"storms": (0, 1000), "hours": (1, 48), "every": (1, 1000)}
_NEEDS = {"s3fs": "fetch", "xradar": "ingest", "h5py": "ingest"}
"""Library → extra that installs it."""
_KEYS = {"NETWORK": "network", "STATION": "station", "--from": "start", "--to": "end"}
_AGAIN = "run the same command to continue"

_log = logging.getLogger("polarcast")
OnStage = Callable[..., None]


@dataclass
class FetchSpec:
    """Volumes of an open archive; the keys are the options of `polarcast data fetch`."""

    network: str = MISSING
    """Open archive: nexrad or fmi."""
    station: str = MISSING
    """Code of the radar, such as KLBB."""
    start: str = MISSING
    """First date or time, UTC."""
    end: str = MISSING
    """Date or time, UTC, at which the period ends; itself not in it."""
    storms: int = 0
    """Only the wettest windows, this many; 0 for all volumes."""
    hours: int = 3
    """Hours of a window of `storms`."""
    every: int = 1
    """Every n-th volume."""


@dataclass
class IngestSpec:
    """How fetched volumes become an archive; the keys are the options of `polarcast data ingest`."""

    spacing_km: float = 1.0
    """Pixel size."""
    size: int = 256
    """Pixels per side."""
    variables: list[str] = field(default_factory=lambda: ["zh", "zdr", "kdp"])
    """Variables of every event."""
    heights: list[float] = field(default_factory=lambda: [1.0, 3.0, 7.0])
    """Heights above the radar in km."""
    step_minutes: float = 6.0
    """Minutes between frames."""
    max_gap_minutes: float = 15.0
    """Longest gap within an event."""
    min_dbz: float = 5.0
    """Threshold in dBZ; weaker echo counts as none."""
    min_rhohv: float = 0.8
    """Lowest RhoHV of precipitation."""
    max_texture: float = 20.0
    """Largest phase texture of precipitation, degrees."""
    kdp: str = "vulpiani"
    """How to retrieve KDP that a file lacks; `file` for never."""
    attenuation: str = "none"
    """How to correct zh and zdr for attenuation."""
    band: str | None = None
    """S, C or X; by default read from the files."""
    rain: str = "kdp"
    """Rain grid: kdp, a, zh_zdr, zh or none."""
    z_r: list[float] = field(default_factory=lambda: [200.0, 1.6])
    """a and b of Z = a R^b, for the rain grid of zh."""


def check_fetch(fetch: FetchSpec, ingest: IngestSpec) -> None:
    """Check what a suite fetches and how it ingests it; nothing is requested.

    Raises:
        BadInput: A value is unknown or out of range, or the extras that fetch and ingest volumes are not installed.
    """
    for name, (least, most) in _LIMITS.items():
        if not least <= (value := getattr(fetch, name)) <= most:
            raise BadInput(f"{value} is out of range", f"data.fetch.{name}", f"give {least} to {most}")
    _settings_of(fetch)
    volume_settings(ingest)
    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        raise not_installed(missing[0], "data.fetch", *dict.fromkeys(_NEEDS.values()))


def expected_volumes(fetch: FetchSpec) -> int:
    """Return a rough number of volumes, for the time left."""
    period = _settings_of(fetch).period
    hours = fetch.storms * fetch.hours or (period.end - period.start).total_seconds() / 3600
    return max(1, round(hours * _VOLUMES_AN_HOUR / fetch.every))


def guess_work(fetch: FetchSpec, board: ProgressBoard) -> None:
    """Announce the expected work to the board; it is corrected when the volumes are known."""
    volumes = expected_volumes(fetch)
    for stage in (FETCH_STAGE, INGEST_STAGE):
        board.guess(stage, _seconds_of(stage, volumes))


def fetched_archive(fetch: FetchSpec, ingest: IngestSpec, raw: Path, archive: Path, board: ProgressBoard) -> None:
    """Fetch the volumes of a suite, and ingest them as an archive; each stage resumes, and is run once.

    Volumes that can't be had or used are named by one warning each, and are left out.

    Args:
        fetch: What to fetch.
        ingest: How to ingest it.
        raw: Folder for the volumes, which archives of other settings share.
        archive: Folder of the archive; a record of its volumes is written beside it.
        board: Progress board.

    Raises:
        BadInput: There is nothing to fetch, or no volume could be had or used.
        WorkFailed: The network was lost: some volumes were not tried.
    """
    if FETCHED in read_archive_note(archive):
        for stage in (FETCH_STAGE, INGEST_STAGE):
            board.expect(stage, 0.0)
        return
    record = _known_record(archive, raw)
    if record:
        board.expect(FETCH_STAGE, 0.0)
    else:
        record = _fetched(fetch, raw, board)
        archive.parent.mkdir(parents=True, exist_ok=True)
        write_json(archive.parent / RECORD, record)
    _ingested([raw / name for name in record["files"]], ingest, archive, board)
    about = {key: value for key, value in record.items() if key != "files"}
    write_archive_note(archive, {**read_archive_note(archive), FETCHED: about})


def _known_record(archive: Path, raw: Path) -> dict[str, Any]:
    """Return the record of volumes that are all there; empty if there is none, or one was deleted."""
    record = read_json(archive.parent / RECORD)
    files = record.get("files")
    if not isinstance(files, list) or not files or len(files) != record.get("volumes"):
        return {}
    return record if all(_is_inside(str(name)) and (raw / str(name)).is_file() for name in files) else {}


def _is_inside(name: str) -> bool:
    """Return whether a name is that of a file in the folder of a station."""
    parts = PurePosixPath(name).parts
    return len(parts) == 2 and not {"/", ".."} & set(parts)


def _settings_of(spec: FetchSpec) -> "FetchSettings":
    """Return the settings of fetch. Raises BadInput if a value is unknown."""
    from polarcast.data.fetch.networks import network_of
    from polarcast.data.fetch.run import FetchSettings

    try:
        network = network_of(spec.network)
        station, period = network.station(spec.station), _period_of(spec)
    except BadInput as error:
        raise error.at(f"data.fetch.{_KEYS.get(error.where, error.where)}") from None
    return FetchSettings(network, station, period, spec.every, spec.storms, spec.hours)


def _period_of(spec: FetchSpec) -> "Period":
    from polarcast.data.fetch.networks import period_of

    return period_of(spec.start, spec.end)


def volume_settings(spec: IngestSpec) -> "VolumeSettings":
    """Return the settings of ingest. Raises BadInput if one is unknown or out of range."""
    from polarcast.data.ingest.volumes.frame import VolumeSettings
    from polarcast.data.ingest.volumes.gridding import Grid

    if len(spec.z_r) != 2:
        raise BadInput(f"no a and b: {spec.z_r}", "data.ingest.z_r", "give both of Z = a R^b, such as [200, 1.6]")
    try:
        return VolumeSettings(
            Grid(spec.size, spec.spacing_km, tuple(sorted(set(spec.heights)))),
            tuple(spec.variables), min_dbz=spec.min_dbz, min_rhohv=spec.min_rhohv, max_texture_deg=spec.max_texture,
            kdp=spec.kdp, attenuation=spec.attenuation, band=spec.band, rain=spec.rain, zr=(spec.z_r[0], spec.z_r[1]),
            step_minutes=spec.step_minutes, max_gap_minutes=spec.max_gap_minutes,
        )  # fmt: skip
    except BadInput as error:
        key = error.where.removeprefix("--").replace("-", "_")
        raise error.at(f"data.ingest.{key}" if key else "data.ingest") from None


def _fetched(spec: FetchSpec, raw: Path, board: ProgressBoard) -> dict[str, Any]:
    """Fetch the volumes; return the record of what came."""
    from polarcast.data.fetch.run import fetch

    settings = _settings_of(spec)
    with _board_stages(board) as on_progress:
        report = fetch(raw, settings, on_progress)
    _check_fetched(report, settings)
    names = sorted(f"{settings.station}/{PurePosixPath(key).name}" for key in (*report.fetched, *report.known))
    about = {**asdict(spec), "network": settings.network.name, "station": settings.station}
    failed = {"not_fetched": len(report.failed)} if report.failed else {}
    return {**about, "period": str(settings.period), "volumes": len(names), **failed, "files": names}


def _check_fetched(report: "FetchReport", settings: "FetchSettings") -> None:
    """Tell what could not be had. Raises BadInput if that is all, WorkFailed if some volumes were not tried."""
    reason = next(iter(report.failed.values()), "")
    if not (report.fetched or report.known):
        what = f"none of {len(report.plan.files)} volumes could be fetched: {reason}"
        raise BadInput(what, f"data.fetch, {settings.station}", _AGAIN)
    if report.not_tried:
        raise WorkFailed(
            f"data.fetch, {settings.station}: {report.not_tried} volumes were not tried, because too many failed in a "
            f"row ({reason}) — {_AGAIN}"
        )
    if report.lost:
        raise WorkFailed(
            f"data.fetch, {settings.station}: {report.lost} volumes were lost by the network or server, and may come "
            f"with another try ({reason}) — {_AGAIN}"
        )
    for key, why in report.failed.items():
        _log.warning("polarcast: not fetched: %s: %s", key, why)
    for window in report.storms:
        if window.problem:
            _log.warning("polarcast: could not look at %s, which ranks last: %s", window.sample.key, window.problem)
    chosen = sum(window.is_chosen for window in report.storms)
    if report.storms and chosen < settings.storms:
        _log.warning("polarcast: %d storms were found, fewer than %d", chosen, settings.storms)


def _ingested(files: list[Path], spec: IngestSpec, archive: Path, board: ProgressBoard) -> None:
    """Ingest the volumes. Raises BadInput if none could be used."""
    from polarcast.data.ingest.run import IngestSettings, ingest

    settings = IngestSettings(volume_settings(spec))
    with _board_stages(board) as on_progress:
        report = ingest(archive, files, settings, usable_cores(), on_progress)
    if not (report.events or report.known):
        reason = next(iter([*report.failed.values(), *report.dropped]), "no echo")
        raise BadInput(f"none of {len(files)} volumes could be used: {reason}", files[0])
    _tell_left_out(report)


def _tell_left_out(report: "IngestReport") -> None:
    for file, reason in report.failed.items():
        _log.warning("polarcast: not ingested: %s: %s", file, reason)
    for reason, number in report.dropped.items():
        _log.warning("polarcast: dropped %d: %s", number, reason)


@contextmanager
def _board_stages(board: ProgressBoard) -> Iterator[OnStage]:
    """Show consecutive stages on a board; yield a function of (stage, done, total, note)."""
    with ExitStack() as stack:
        current: dict[str, Callable[[int], None]] = {}

        def show(stage: str, done: int, total: int, _: str = "") -> None:
            if stage not in current:
                stack.close()
                current.clear()
                name, unit = _STAGES[stage]
                if name in _SECONDS:
                    board.expect(name, _seconds_of(name, total))
                current[stage] = stack.enter_context(board.stage(name, unit, total))
            current[stage](done)

        yield show


def _seconds_of(stage: str, volumes: int) -> float:
    return _SECONDS[stage] * volumes / (usable_cores() if stage == INGEST_STAGE else 1)

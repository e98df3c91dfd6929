"""Fetch the volumes of a station: list, choose, look, plan, transfer, record."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polarcast.data.cores import usable_cores
from polarcast.data.errors import BadInput
from polarcast.data.fetch.listing import ObjectListing, list_volumes
from polarcast.data.fetch.manifest import FetchManifest
from polarcast.data.fetch.networks import Period, RadarNetwork, RemoteFile
from polarcast.data.fetch.plan import FetchPlan, check_space, in_words, measured_rate, place_of, plan_of
from polarcast.data.fetch.store import (
    BROKEN,
    BUSY,
    DENIED,
    OTHER,
    UNREACHABLE,
    ObjectStore,
    RequestFailed,
    RequestPatience,
)
from polarcast.data.fetch.storms import StormWindow, candidate_windows, look_at, wettest
from polarcast.data.fetch.threads import in_threads
from polarcast.data.fetch.transfer import FetchedFile, adopt, fetch_file, sha256_of_file
from polarcast.data.files import checked_output, read_json, sole_writer, sync_folder, write_json
from polarcast.data.workers import run_all

STORMS = "storms.json"
_LOOKS = ".looks"
FETCHED, KNOWN, CHANGED_THERE, REPAIRED = "fetched", "known", "changed", "repaired"
_GIVE_UP_AFTER = {UNREACHABLE: 3, DENIED: 10, BUSY: 10, BROKEN: 10}
"""Number of files in a row that failed in one way, after which the others are not tried."""

OnFetch = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class FetchSettings:
    """What to fetch.

    Attributes:
        network: Open archive.
        station: Code of the radar.
        period: Volumes that start in it.
        every: 1 for all volumes, 2 for every second one, and so on.
        storms: Number of windows to choose; 0 for the whole period.
        hours: Length of a window.
        workers: Number of connections.
        endpoint: URL of another S3 server.
        patience: How to repeat what fails.
    """

    network: RadarNetwork
    station: str
    period: Period
    every: int = 1
    storms: int = 0
    hours: int = 3
    workers: int = 4
    endpoint: str | None = None
    patience: RequestPatience = field(default_factory=RequestPatience)

    def open_store(self) -> ObjectStore:
        """Return the network's bucket."""
        network = self.network
        return ObjectStore(
            network.bucket, network.region, self.endpoint, connections=self.workers + 4, patience=self.patience
        )


@dataclass
class FetchReport:
    """What a call found, and did."""

    plan: FetchPlan
    others: int = 0
    """Number of objects of these days that are not taken: no volumes, or volumes that are there twice."""
    storms: list[StormWindow] = field(default_factory=list)
    """Windows that were looked at, the wettest first."""
    fetched: list[str] = field(default_factory=list)
    """Keys that were fetched by this call."""
    known: list[str] = field(default_factory=list)
    """Keys whose files were there, and intact."""
    changed: list[str] = field(default_factory=list)
    """Keys among `fetched` that were there, with another content, before they changed in the bucket."""
    repaired: list[str] = field(default_factory=list)
    """Keys among `fetched` whose files were not as they had been fetched."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reason by key that could not be had."""
    lost: int = 0
    """Number of keys among `failed` that another try may bring: the network or the server failed."""
    not_tried: int = 0
    """Number of files that were not tried, because too many failed in a row."""
    checked: Counter[str] = field(default_factory=Counter)
    """Number of files by how their content was checked."""
    received: int = 0
    """Bytes that came."""
    retries: int = 0
    """Number of requests that were repeated."""

    def as_record(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return {
            "fetched": len(self.fetched), "known": len(self.known), "changed": self.changed, "repaired": self.repaired,
            "failed": self.failed, "not_tried": self.not_tried, "checked": dict(self.checked),
            "received_bytes": self.received, "retries": self.retries, "others": self.others,
            "storms": [window.as_record() for window in self.storms],
        }  # fmt: skip


def preview(out: Path, settings: FetchSettings, on_progress: OnFetch = lambda *_: None) -> FetchReport:
    """Return what `fetch` would do; nothing is written. Windows of storms are ranked by size only.

    Raises:
        BadInput: See `fetch`.
    """
    store = settings.open_store()
    try:
        listing, windows = _found(store, settings, on_progress)
        windows = [replace(window, is_chosen=n < settings.storms) for n, window in enumerate(windows)]
        files = _chosen(listing, windows, settings)
        plan = plan_of(out, settings.station, files, measured_rate(store, files[0]))
        return FetchReport(plan, len(listing.others), windows)
    finally:
        store.halt()


def fetch(out: Path, settings: FetchSettings, on_progress: OnFetch = lambda *_: None) -> FetchReport:
    """Fetch volumes into a folder of the station below `out`; files that are there and intact are skipped.

    Args:
        out: Folder, made if missing.
        settings: What to fetch.
        on_progress: Called with (stage, done, total, note).

    Raises:
        BadInput: There is nothing to fetch, the bucket can't be listed, the disk is too small, the folder can't be
            written, or another process writes there.
    """
    checked_output(out, is_folder=True)
    if settings.storms:
        _check_readers()
    store = settings.open_store()
    try:
        with sole_writer(out):
            listing, windows = _found(store, settings, on_progress)
            if windows:
                windows = _looked_at(store, out, windows, settings, on_progress)
            files = _chosen(listing, windows, settings)
            plan = plan_of(out, settings.station, files)
            check_space(out, plan)
            report = FetchReport(plan, len(listing.others), windows)
            _Transfer(store, out, settings, report).run(files, on_progress)
            if not (report.failed or report.not_tried):
                shutil.rmtree(out / _LOOKS, ignore_errors=True)
            return report
    finally:
        store.halt()


def _found(
    store: ObjectStore, settings: FetchSettings, on_progress: OnFetch
) -> tuple[ObjectListing, list[StormWindow]]:
    """Return the listing, and the candidates if storms are wanted."""

    def listed(done: int, total: int) -> None:
        on_progress("days listed", done, total, "")

    listing = list_volumes(store, settings.network, settings.station, settings.period, settings.workers, listed)
    if not settings.storms:
        return listing, []
    return listing, candidate_windows(listing.files, settings.period, settings.hours, settings.storms)


def _chosen(listing: ObjectListing, windows: Sequence[StormWindow], settings: FetchSettings) -> list[RemoteFile]:
    """Return the files to fetch in the order of time."""
    groups = [window.files for window in windows if window.is_chosen] if windows else [listing.files]
    return sorted((file for group in groups for file in group[:: settings.every]), key=lambda file: file.time)


def _check_readers() -> None:
    """Raise BadInput if the libraries that read volumes are not installed."""
    if missing := [name for name in ("xradar", "h5py") if find_spec(name) is None]:
        raise BadInput(f"{missing[0]} is not installed", "--storms", "pip install 'polarcast[fetch,ingest]'")


def _looked_at(
    store: ObjectStore, out: Path, windows: Sequence[StormWindow], settings: FetchSettings, on_progress: OnFetch
) -> list[StormWindow]:
    """Look at one volume of each window; return the windows ranked, and write the ranking to `storms.json`."""
    shares = _known_shares(out)
    found = [replace(w, share=shares.get((w.sample.key, w.sample.etag))) for w in windows]
    todo = [n for n, window in enumerate(found) if window.share is None]
    paths: dict[int, Path] = {}

    def have(n: int) -> Path:
        sample = found[n].sample
        there = place_of(out, settings.station, sample)
        if there.is_file() and adopt(store, sample, there):
            return there
        path = out / _LOOKS / sample.name
        if not (path.is_file() and adopt(store, sample, path)):
            fetch_file(store, sample, path)
        return path

    with in_threads(store, have, todo, settings.workers) as steps:
        for step in steps:
            for n, path in step:
                if isinstance(path, RequestFailed):
                    found[n] = replace(found[n], problem=path.reason)
                else:
                    paths[n] = path
            on_progress("volumes to look at", len(paths), len(todo), "")
    order = sorted(paths)
    looks = run_all(look_at, [paths[n] for n in order], min(settings.workers, usable_cores()))
    for done, (index, share) in enumerate(looks, start=1):
        n = order[index]
        if isinstance(share, BadInput):
            found[n] = replace(found[n], problem=share.reason)
        else:
            found[n] = replace(found[n], share=round(share, 6))
        on_progress("volumes looked at", done, len(order), "")
    ranked = wettest(found, settings.storms)
    write_json(out / STORMS, {"hours": settings.hours, "windows": [window.as_record() for window in ranked]})
    return ranked


def _known_shares(out: Path) -> dict[tuple[str, str], float]:
    """Return the shares that an earlier call found, by key and ETag."""
    windows = read_json(out / STORMS).get("windows")
    known = [one for one in windows if isinstance(one, dict)] if isinstance(windows, list) else []
    return {
        (str(one.get("sample")), str(one.get("etag"))): share
        for one in known
        if isinstance(share := one.get("share_35_dbz"), float)
    }


class _Transfer:
    """Transfer of all files of a call."""

    def __init__(self, store: ObjectStore, out: Path, settings: FetchSettings, report: FetchReport) -> None:
        self._store, self._out, self._settings, self._report = store, out, settings, report
        self._manifest = FetchManifest(out)
        self._noted = dict(self._manifest.files)

    def run(self, files: Sequence[RemoteFile], on_progress: OnFetch) -> None:
        """Transfer the files; what fails is in the report, and does not affect the others."""
        store, report = self._store, self._report
        began, received, done = time.monotonic(), store.received, 0
        in_a_row: Counter[str] = Counter()
        try:
            with in_threads(store, self._one, files, self._settings.workers) as steps:
                for step in steps:
                    for remote, answer in step:
                        done += 1
                        if isinstance(answer, RequestFailed):
                            report.failed[remote.key] = answer.reason
                            report.lost += answer.may_pass
                            in_a_row[answer.kind] += 1
                        else:
                            in_a_row.clear()
                            self._record(remote, *answer)
                    report.received, report.retries = store.received - received, store.retries
                    on_progress("files", done, len(files), _note(report, time.monotonic() - began))
                    if done < len(files) and any(in_a_row[kind] >= most for kind, most in _GIVE_UP_AFTER.items()):
                        report.not_tried = len(files) - done
                        store.halt()
                        break
        finally:
            self._manifest.write()
            folder = self._out / self._settings.station
            if folder.is_dir():
                sync_folder(folder)

    def _one(self, remote: RemoteFile) -> tuple[str, FetchedFile]:
        """Return what was done for a file, and its record. Raises RequestFailed."""
        target, outcome = place_of(self._out, self._settings.station, remote), FETCHED
        noted = self._noted.get(self._path(remote))
        if os.path.lexists(target):
            if not target.is_file():
                raise RequestFailed(OTHER, "something that is no file has its name — move it away")
            if noted is None:
                if there := adopt(self._store, remote, target):
                    return KNOWN, there
                raise RequestFailed(OTHER, "a file of other content has its name — move it away")
            if noted.etag != remote.etag:
                outcome = CHANGED_THERE
            elif target.stat().st_size == noted.size and sha256_of_file(target) == noted.sha256:
                return KNOWN, noted
            else:
                outcome = REPAIRED
        look = self._out / _LOOKS / remote.name
        if look.is_file() and (there := adopt(self._store, remote, look)):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(look, target)
            return outcome, there
        return outcome, fetch_file(self._store, remote, target)

    def _record(self, remote: RemoteFile, outcome: str, file: FetchedFile) -> None:
        report = self._report
        report.checked[file.checked] += 1
        if outcome == KNOWN:
            report.known.append(remote.key)
        else:
            report.fetched.append(remote.key)
            report.changed += [remote.key] if outcome == CHANGED_THERE or file.etag != remote.etag else []
            report.repaired += [remote.key] if outcome == REPAIRED else []
        if self._manifest.files.get(self._path(remote)) != file:
            self._manifest.add(self._path(remote), file)

    def _path(self, remote: RemoteFile) -> str:
        return f"{self._settings.station}/{remote.name}"


def _note(report: FetchReport, seconds: float) -> str:
    """Return size, rate and remaining time for the progress."""
    rate, missing = report.received / max(seconds, 1e-6), report.plan.missing_bytes
    left = max(0, missing - report.received)
    words = f"{in_words(report.received)} of {in_words(missing)}, {rate / 1e6:.1f} MB/s"
    if rate and left:
        words += f", {left / rate / 60:.0f} min left" if left / rate >= 90 else f", {left / rate:.0f} s left"
    return words + (f", {report.retries} retries" if report.retries else "")

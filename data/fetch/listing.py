"""List the volumes of a station in a period, and say what is there if there are none."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from polarcast.data.errors import BadInput, nearest
from polarcast.data.fetch.networks import Period, RadarNetwork, RemoteFile
from polarcast.data.fetch.store import ABSENT, DENIED, UNREACHABLE, ObjectStore, RequestFailed
from polarcast.data.fetch.threads import in_threads

OnDone = Callable[[int, int], None]
_MOST_NAMED = 12
_DAYS_AWAY = (1, 2, 3, 4, 5, 6, 7, 10, 14, 21, 30, 60, 120, 240, 365)


@dataclass(frozen=True)
class ObjectListing:
    """Volumes of a station in a period.

    Attributes:
        files: Volumes in the order of time.
        others: Keys of the objects of these days that are no volumes, such as messages, or have the time of another
            volume, such as its gzipped twin.
        seconds: Time that listing took.
    """

    files: tuple[RemoteFile, ...]
    others: tuple[str, ...]
    seconds: float


def list_volumes(
    store: ObjectStore, network: RadarNetwork, station: str, period: Period, workers: int = 4,
    on_done: OnDone = lambda *_: None,
) -> ObjectListing:  # fmt: skip
    """List the volumes of a station that start in a period.

    Raises:
        BadInput: There are none, or the bucket can't be listed.
    """
    began, days = time.monotonic(), period.days
    found: list[tuple[RemoteFile | None, str]] = []
    with in_threads(store, lambda day: store.keys(network.prefix(day, station)), days, workers) as steps:
        count = 0
        for step in steps:
            for _, answer in step:
                if isinstance(answer, RequestFailed):
                    raise no_listing(store, answer)
                found += [(_volume(network, station, one), one["Key"]) for one in answer]
                count += 1
            on_done(count, len(days))
    volumes = [volume for volume, _ in found if volume]
    others = [key for volume, key in found if volume is None]
    files: list[RemoteFile] = []
    for volume in sorted((v for v in volumes if v.time in period), key=lambda v: (v.time, v.key)):
        if files and files[-1].time == volume.time:
            others.append(volume.key)
        else:
            files.append(volume)
    if not files:
        raise _nothing(store, network, station, period, sorted(volumes, key=lambda v: v.time), sorted(others))
    return ObjectListing(tuple(files), tuple(sorted(others)), time.monotonic() - began)


def no_listing(store: ObjectStore, error: RequestFailed) -> BadInput:
    """Return the error for a bucket that can't be listed."""
    where = f"{store.bucket} at {store.place}"
    fix = "try again later"
    if error.kind == UNREACHABLE:
        return BadInput(f"can't be reached ({error.reason})", where, "check the network, HTTPS_PROXY and --endpoint")
    if error.kind in (DENIED, ABSENT):
        fix = "the archive may have moved or closed: look at its provider's page"
    return BadInput(f"can't be listed: {error.reason}", where, fix)


def _volume(network: RadarNetwork, station: str, one: dict[str, Any]) -> RemoteFile | None:
    found = network.volume_of(one["Key"].rsplit("/", 1)[-1], station)
    return RemoteFile(one["Key"], int(one["Size"]), one["ETag"], *found) if found else None


def _nothing(
    store: ObjectStore, network: RadarNetwork, station: str, period: Period, volumes: Sequence[RemoteFile],
    others: Sequence[str],
) -> BadInput:  # fmt: skip
    """Return the error for a period without volumes, which says what is there instead."""
    what = f"no volumes of {station} from {period}"
    if volumes:
        first, last = volumes[0].time, volumes[-1].time
        return BadInput(f"{what}; there are some from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}", store.bucket)
    if others:
        return BadInput(f"{what}, but {len(others)} other objects, such as {others[0]}", store.bucket)
    try:
        day = period.start.date()
        stations = store.folders(network.prefix(day))
        near = _near_days(store, network, station, period)
        if near:
            days = " and ".join(map(str, near))
            return BadInput(what, store.bucket, f"the nearest days with some that were found: {days}")
        if not stations:
            years = sorted(y for y in store.folders("") if y.isdigit())
            has = f"the bucket has the years {years[0]} to {years[-1]}" if years else "the bucket has no years"
            return BadInput(f"{what}, nor of any station on {day}", store.bucket, has)
    except RequestFailed as error:
        return no_listing(store, error)
    like = nearest(station, stations) or f"stations of {day}: {_named(stations)}"
    return BadInput(f"{what}, nor near it", store.bucket, like)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _near_days(store: ObjectStore, network: RadarNetwork, station: str, period: Period) -> list[date]:
    """Return the nearest day before and after a period with objects of a station, among some up to a year away."""
    first, last = period.days[0], period.days[-1]
    tried = [first - timedelta(days=n) for n in _DAYS_AWAY] + [last + timedelta(days=n) for n in _DAYS_AWAY]
    there = []
    with in_threads(store, lambda day: store.has_any(network.prefix(day, station)), tried, 4) as steps:
        for step in steps:
            for day, answer in step:
                if isinstance(answer, RequestFailed):
                    raise answer
                there += [day] if answer else []
    before, after = [d for d in there if d < first], [d for d in there if d > last]
    return [*([max(before)] if before else []), *([min(after)] if after else [])]

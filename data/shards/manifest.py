"""Shard manifests: `manifest.json` holds all metadata that a reader needs, so that it opens no shard to get it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.groups import own_group
from polarcast.data.origins import Area, Origin
from polarcast.data.shards.manifest_check import check_entries, check_entry, check_header, check_rows, check_runs
from polarcast.data.shards.samples import COLUMNS, LISTED, OBSERVED, RUN, UNMASKED_RUN, Table, from_runs, to_runs
from polarcast.data.shards.source import ShardSource
from polarcast.data.splits import LEAVE_ONE_OUT, Splits

FORMAT = "polarcast-shards/4"
UNMASKED_FORMAT = "polarcast-shards/3"
"""Format of manifests without masks and groups: their digest is that of earlier versions, which can read them."""
NAME = "manifest.json"
_STORED_OTHERWISE = ("source", "shards", "samples", "groups", "origins")


@dataclass(frozen=True)
class Shard:
    """One tar: its file name, size in bytes, and SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Metadata of the shards of one archive: grid, splits by event, training statistics, and provenance."""

    source: ShardSource
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    shape: tuple[int, int]
    spacing_km: float
    time_step_minutes: float
    units: dict[str, str]
    splits: Splits
    shards: tuple[Shard, ...]
    samples: Table = field(repr=False, compare=False)
    """One row per frame, ordered by shard: (shard, *COLUMNS)."""
    statistics: dict[str, Any]
    selection: dict[str, Any]
    provenance: dict[str, Any]
    groups: dict[int, str] = field(default_factory=dict)
    """Group by event, of all events; empty if every event is its own group."""
    origins: dict[int, Origin] = field(default_factory=dict, repr=False)
    """Time and place by event, of events that have a clock."""

    @property
    def folder(self) -> Path:
        """Local folder of the shards. Raises BadInput if they are behind a URL."""
        return self.source.folder

    @property
    def has_rain(self) -> bool:
        """Whether the frames have a rain rate."""
        return "rain_rate" in self.units

    @property
    def pixels(self) -> int:
        """Number of pixels of one field."""
        return self.shape[0] * self.shape[1]

    @property
    def has_masks(self) -> bool:
        """Whether some frames have masks of observed pixels; without, all pixels count as observed."""
        return bool((self.samples[:, 1 + OBSERVED] >= 0).any())

    @property
    def is_fold(self) -> bool:
        """Whether the test split is one group, left out of the others; see `splits.assign`."""
        return str(self.provenance.get("split", "")).startswith(f"{LEAVE_ONE_OUT}/")

    def by_shard(self) -> list[Table]:
        """Rows of each shard."""
        bounds = np.searchsorted(self.samples[:, 0], np.arange(len(self.shards) + 1))
        return [self.samples[a:b] for a, b in pairwise(bounds)]

    def group_of(self, event: int) -> str:
        """Group of an event: events of one group may show the same storm."""
        return self.groups.get(event, own_group(event))

    def count_groups(self, events: Iterable[int]) -> int:
        """Return the number of groups of these events."""
        return len({self.group_of(event) for event in events})

    def digest(self) -> str:
        """SHA-256 of the shards' content, splits, groups and window filter, independent of their location."""
        content = {
            "splits": self.splits,
            "shards": [s.sha256 for s in self.shards],
            "min_strong_pixels": self.selection["min_strong_pixels"],
            "format": FORMAT if self.has_masks else UNMASKED_FORMAT,
        }
        if self.groups:
            content["groups"] = self.groups
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Serialize the manifest."""
        content = {k: v for k, v in self.__dict__.items() if k not in _STORED_OTHERWISE}
        content |= {"groups": self.groups} if self.groups else {}
        content |= {"origins": _packed_origins(self.origins)} if self.origins else {}
        shards = [{**s.__dict__, **_packed(rows[:, 1:])} for s, rows in zip(self.shards, self.by_shard(), strict=True)]
        form = self._format()
        columns = UNMASKED_RUN if form == UNMASKED_FORMAT else RUN
        for shard in shards:
            shard["runs"] = [run[: len(columns)] for run in shard["runs"]]
        return json.dumps({"format": form, **content, "run_columns": columns, "shards": shards})

    def _format(self) -> str:
        """Return the oldest format that holds all of the manifest."""
        return FORMAT if self.has_masks or self.groups or self.origins else UNMASKED_FORMAT


def read_manifest(location: Path | str) -> Manifest:
    """Read the manifest of a folder of shards, or of shards behind a URL.

    Args:
        location: Location of a `ShardSource`: a folder, or a URL (template) such as `https://host/shards/{name}`.

    Raises:
        BadInput: The manifest is missing, damaged, or of another format version; or it claims what can't be true, such
            as a shard's name that is a path, or a frame outside of its shard.
    """
    source = ShardSource(str(location))
    text = source.read_text(NAME, missing="make shards with: polarcast data shard ARCHIVE OUT")
    where = source.shown_url(NAME)
    try:
        content = json.loads(text)
        version = content.pop("format")
        if version not in (FORMAT, UNMASKED_FORMAT):
            raise BadInput(f"format {version!r:.40}, this version reads {FORMAT!r}", where, "shard the archive again")
        manifest = _from_json(source, content, RUN if version == FORMAT else UNMASKED_RUN)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(f"damaged manifest ({error})", where, "shard the archive again") from None
    for shard in () if source.is_local else manifest.shards:
        source.url(shard.name)  # refuses names that a shell could run
    return manifest


def _packed(part: Table) -> dict[str, Any]:
    return {"runs": to_runs(part), **{name: part[:, COLUMNS.index(name)].tolist() for name in LISTED}}


def _packed_origins(origins: dict[int, Origin]) -> dict[str, Any]:
    """Pack origins as [source, extent] by place, and [event, place, start, stop] by event."""
    places = list(dict.fromkeys(origin.place for origin in origins.values()))
    number = {place: index for index, place in enumerate(places)}
    return {"places": places, "events": [[e, number[o.place], o.start, o.stop] for e, o in origins.items()]}


def _origins(packed: dict[str, Any] | None) -> dict[int, Origin]:
    """Invert `_packed_origins`."""
    if packed is None:
        return {}
    places = [Area(source, None if extent is None else tuple(extent)) for source, extent in packed["places"]]
    return {event: Origin(places[place], start, stop) for event, place, start, stop in packed["events"]}


def _from_json(source: ShardSource, content: dict[str, Any], columns: tuple[str, ...]) -> Manifest:
    """Build a manifest from parsed JSON. Raises ValueError and others for content that `manifest_check` refuses."""
    entries = content.pop("shards")
    if content.pop("run_columns") != list(columns):
        raise ValueError(f"run_columns are not {', '.join(columns)}")
    check_header(content)
    for entry in entries:
        check_entry(entry, NAME)
    shards = tuple(Shard(e["name"], e["bytes"], e["sha256"]) for e in entries)
    samples = _samples(entries, columns)
    check_rows(content, [shard.bytes for shard in shards], samples)
    for key in ("variables", "heights_km", "shape"):
        content[key] = tuple(content[key])
    content["splits"] = {name: tuple(events) for name, events in content["splits"].items()}
    content["groups"] = {int(event): group for event, group in content.get("groups", {}).items()}
    content["origins"] = _origins(content.get("origins"))
    return Manifest(source=source, shards=shards, samples=samples, **content)


def _samples(entries: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    """Expand the runs of the shards to rows (n, 1 + COLUMNS)."""
    check_entries(entries, columns)
    runs = np.array([run for e in entries for run in e["runs"]], np.int64).reshape(-1, len(columns))
    if columns == UNMASKED_RUN:
        runs = np.pad(runs, ((0, 0), (0, 1)), constant_values=-1)
    check_runs(entries, np.repeat(np.arange(len(entries)), [len(e["runs"]) for e in entries]), runs)
    counts = [len(e[LISTED[0]]) for e in entries]
    samples = np.empty((sum(counts), 1 + len(COLUMNS)), np.int64)
    samples[:, 0] = np.repeat(np.arange(len(entries)), counts)
    samples[:, 1:] = from_runs(runs)
    for name in LISTED:
        samples[:, 1 + COLUMNS.index(name)] = np.fromiter(
            chain.from_iterable(e[name] for e in entries), np.int64, len(samples)
        )
    return samples

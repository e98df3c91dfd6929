"""Score records, the sums of every event from which all scores are computed: write, read, merge."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, as_one_line
from polarcast.data.files import read_limited, write_bytes
from polarcast.data.groups import own_group, problem_of_group
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.sums import FAMILIES, families

FORMAT = "polarcast-scores/3"
_UNGROUPED_FORMAT = "polarcast-scores/2"
"""Format without groups: every event is its own."""
_MAX_FILE_BYTES, _MAX_ROWS = 2**30, 10**7
_ANY_RATIO_BYTES, _MAX_RATIO, _MAX_BYTES = 2**26, 1000, 2**33
"""Sums up to the first size are accepted at any ratio to the file's size, none above the last size."""
_KEYS, _GROUP = ("event", "lead_time", "height"), "group"
_DAMAGE = (OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class Records:
    """Sums of each event of one run; sums of disjoint events or fields are additive.

    Attributes:
        protocol: Coordinates of the sums.
        events: Event numbers, ascending, (e,).
        sums: Family → (e, lead time, height, *axes, columns) float64.
        data: Digest of the shards that were scored (`Manifest.digest`); empty if it is not recorded.
        groups: Group of each event, (e,) text; by default every event is its own group. Events of one group may show
            the same storm, so that intervals resample groups.
    """

    protocol: Protocol
    events: npt.NDArray[np.int64]
    sums: Mapping[str, Array]
    data: str = ""
    groups: npt.NDArray[np.str_] = field(default_factory=lambda: np.empty(0, str))

    def __post_init__(self) -> None:
        if not len(self.groups):
            object.__setattr__(self, "groups", _groups(self.events, {}))
        if len(self.groups) != len(self.events):
            raise ValueError(f"{len(self.groups)} groups of {len(self.events)} events")

    @classmethod
    def of_windows(
        cls,
        protocol: Protocol,
        events: npt.NDArray[np.int64],
        sums: Mapping[str, Array],
        data: str = "",
        groups: Mapping[int, str] | None = None,
    ) -> "Records":
        """Add up the sums of windows by event.

        Args:
            protocol: Coordinates of the sums.
            events: Event number of each window, (n,).
            sums: Family → (n, lead time, height, *axes, columns), in the order of `events`.
            data: Digest of the shards.
            groups: Group by event; an event without one is its own group.
        """
        numbers, index = np.unique(events, return_inverse=True)
        by_event = {name: _sum_by_event(index, len(numbers), of) for name, of in sums.items()}
        return cls(protocol, numbers, by_event, data, _groups(numbers, groups or {}))

    @property
    def share_without_forecast(self) -> float:
        """Share of the observed pixels at which the forecast is NaN; 0 for records that do not count them."""
        if "observed" not in self.sums:
            return 0.0
        _, observed, scored = self.sums["observed"].reshape(-1, 3).sum(0)
        return float(1 - scored / observed) if observed else 0.0

    def group_by_event(self) -> dict[int, str]:
        """Return the group of each event by its number."""
        return dict(zip(self.events.tolist(), self.groups.tolist(), strict=True))

    def merged(self, other: "Records") -> "Records":
        """Merge two records of disjoint windows.

        Raises:
            BadInput: the records have different protocols, or an event has different groups.
        """
        if self.protocol != other.protocol:
            raise BadInput("records have different protocols", "scores", "evaluate all parts with the same settings")
        events = np.concatenate([self.events, other.events])
        sums = {name: np.concatenate([of, other.sums[name]]) for name, of in self.sums.items()}
        groups, others = self.group_by_event(), other.group_by_event()
        if differing := sorted(e for e in groups.keys() & others.keys() if groups[e] != others[e]):
            what = f"event {differing[0]:03d} has different groups in two records"
            raise BadInput(what, "scores", "evaluate all parts on the same shards")
        data = self.data if self.data == other.data else ""
        return Records.of_windows(self.protocol, events, sums, data, groups | others)


def _groups(events: npt.NDArray[np.int64], groups: Mapping[int, str]) -> npt.NDArray[np.str_]:
    return np.array([groups.get(event, own_group(event)) for event in events.tolist()], dtype=np.str_)


def _sum_by_event(index: npt.NDArray[np.int64], events: int, sums: Array) -> Array:
    total = np.zeros((events, *sums.shape[1:]))
    np.add.at(total, index, sums)
    return total


def write_records(path: Path, records: Records) -> None:
    """Write records as Parquet: one row per event, lead time and height, with the group of the event.

    There is one list column per family.

    The file's metadata holds the format and the protocol, which together define the layout of each list, and the digest
    of the shards.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    protocol = records.protocol
    keys = np.meshgrid(records.events, protocol.lead_time, protocol.height, indexing="ij")
    columns = {name: pa.array(k.ravel()) for name, k in zip(_KEYS, keys, strict=True)}
    columns[_GROUP] = pa.array(np.repeat(records.groups, keys[0][0].size).tolist(), pa.string())
    for name, sums in records.sums.items():
        flat = sums.reshape(keys[0].size, -1)
        values = flat.astype(np.int64) if FAMILIES[name].counts else flat
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    metadata = {"polarcast": FORMAT, "protocol": json.dumps(protocol.as_record()), "data": records.data}
    sink = pa.BufferOutputStream()
    table = pa.table(columns).replace_schema_metadata(metadata)
    # Without checksums, changed bytes of a page may be read as other sums.
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_records(path: Path) -> Records:
    """Read records written by `write_records`.

    Raises:
        BadInput: the file is missing, damaged, or of another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fix = "run: polarcast evaluate on the run"
    if not path.is_file():
        raise BadInput("no score records: the run is not evaluated yet", path, fix)
    try:
        # pyarrow can't open paths that are not UTF-8.
        content = read_limited(path, _MAX_FILE_BYTES)
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        _check_size(file.metadata, len(content))
        table = file.read()
        metadata = table.schema.metadata or {}
        if (version := metadata.get(b"polarcast", b"").decode()) not in (FORMAT, _UNGROUPED_FORMAT):
            raise BadInput(f"not score records of the supported format {FORMAT}", path, fix)
        protocol = Protocol.of_record(json.loads(metadata[b"protocol"]))
        lead = (-1, len(protocol.lead_time), len(protocol.height))
        sums = {
            name: table[name]
            .combine_chunks()
            .flatten()
            .to_numpy()
            .astype(float)
            .reshape(*lead, *family.shape(protocol))
            for name, family in families(protocol).items()
            if name in table.column_names  # older records lack families added since
        }
        events = table["event"].to_numpy().reshape(lead)[:, 0, 0]
        data = metadata.get(b"data", b"").decode()  # older records lack it
        groups = _read_groups(table[_GROUP], lead[1] * lead[2]) if version == FORMAT else np.empty(0, str)
    except (*_DAMAGE, pa.ArrowException) as error:
        raise BadInput(f"is damaged: not score records ({as_one_line(str(error))})", path, fix) from None
    return Records(protocol, events, sums, data, groups)


def _read_groups(column: Any, rows_per_event: int) -> npt.NDArray[np.str_]:
    """Return the group of each event from that of each row. Raises ValueError for values that no event can have."""
    rows = np.array(column.to_pylist(), dtype=object).reshape(-1, rows_per_event)
    if problem := next(filter(None, map(problem_of_group, rows.ravel().tolist())), ""):
        raise ValueError(f"a group {problem}")
    if (rows != rows[:, :1]).any():
        raise ValueError("an event has several groups")
    return rows[:, 0].astype(np.str_)


def _check_size(metadata: Any, stored: int) -> None:
    """Raise ValueError if a Parquet file of `stored` bytes claims implausibly many rows or values."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    values = sum(group.column(j).num_values for group in groups for j in range(group.num_columns))
    unpacked = max(8 * values, sum(group.total_byte_size for group in groups))
    if metadata.num_rows > _MAX_ROWS or unpacked > min(max(_ANY_RATIO_BYTES, _MAX_RATIO * stored), _MAX_BYTES):
        raise ValueError(f"{metadata.num_rows} rows of {unpacked / 1e9:.3g} GB in {stored} bytes")


def common_events(records: Sequence[Records]) -> npt.NDArray[np.int64]:
    """Return the event numbers that all records share, (e,).

    Raises:
        BadInput: the records cover different events or groups, so that a paired comparison is impossible.
    """
    first = records[0]
    for other in records[1:]:
        if not np.array_equal(first.events, other.events):
            raise BadInput("runs were scored on different events", "scores", "evaluate all runs on the same shards")
        if not np.array_equal(first.groups, other.groups):
            raise BadInput("runs were scored with different groups", "scores", "evaluate all runs on the same shards")
    return first.events

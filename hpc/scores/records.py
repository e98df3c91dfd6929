"""Score records: the sums of every event, of one run on one set of events; all scores are functions of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.files import write_bytes
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.sums import FAMILIES, families

FORMAT = "polarcast-scores/2"
_KEYS = ("event", "lead_time", "height")


@dataclass(frozen=True)
class Records:
    """Sums of each event; those of disjoint events or fields add up.

    Attributes:
        protocol: What was scored.
        events: (e,) event numbers, ascending.
        sums: Family → (e, lead time, height, *axes, columns) float64.
    """

    protocol: Protocol
    events: npt.NDArray[np.int64]
    sums: Mapping[str, Array]

    @classmethod
    def of_windows(cls, protocol: Protocol, events: npt.NDArray[np.int64], sums: Mapping[str, Array]) -> "Records":
        """Add up the sums (n, lead time, height, …) of windows, which belong to `events` (n,), in their order."""
        numbers, index = np.unique(events, return_inverse=True)
        return cls(protocol, numbers, {name: _added(index, len(numbers), of) for name, of in sums.items()})

    def merged(self, other: "Records") -> "Records":
        """Both together: windows scored apart.

        Raises:
            BadInput: they were scored by different protocols.
        """
        if self.protocol != other.protocol:
            raise BadInput("scored in different ways", "scores", "evaluate all parts with the same settings")
        events = np.concatenate([self.events, other.events])
        together = {name: np.concatenate([of, other.sums[name]]) for name, of in self.sums.items()}
        return Records.of_windows(self.protocol, events, together)


def _added(index: npt.NDArray[np.int64], events: int, sums: Array) -> Array:
    whole = np.zeros((events, *sums.shape[1:]))
    np.add.at(whole, index, sums)
    return whole


def write_records(path: Path, records: Records) -> None:
    """Write as Parquet: a row for each event, lead time and height, a column of lists for each family.

    The file's metadata names the format and the protocol, which together say what is where in a list.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    protocol = records.protocol
    keys = np.meshgrid(records.events, protocol.lead_time, protocol.height, indexing="ij")
    columns = {name: pa.array(k.ravel()) for name, k in zip(_KEYS, keys, strict=True)}
    for name, sums in records.sums.items():
        flat = sums.reshape(keys[0].size, -1)
        values = flat.astype(np.int64) if FAMILIES[name].counts else flat
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    about = {"polarcast": FORMAT, "protocol": json.dumps(protocol.as_record())}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata(about), sink, compression="zstd")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_records(path: Path) -> Records:
    """Read what `write_records` wrote. Raises BadInput when the file is missing, damaged, or of another format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fix = "run: polarcast evaluate on the run"
    try:
        table = pq.read_table(path)
        about = table.schema.metadata or {}
        if about.get(b"polarcast") != FORMAT.encode():
            raise BadInput(f"not score records of format {FORMAT}", path, fix)
        protocol = Protocol.of_record(json.loads(about[b"protocol"]))
        lead = (-1, len(protocol.lead_time), len(protocol.height))
        sums = {
            name: table[name]
            .combine_chunks()
            .flatten()
            .to_numpy()
            .astype(float)
            .reshape(*lead, *family.shape(protocol))
            for name, family in families(protocol).items()
            if name in table.column_names  # a family may be younger than the records
        }
        events = table["event"].to_numpy().reshape(lead)[:, 0, 0]
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise BadInput(f"not score records ({error})", path, fix) from None
    return Records(protocol, events, sums)


def common_events(records: Sequence[Records]) -> npt.NDArray[np.int64]:
    """The events of all records.

    Raises:
        BadInput: they were made on different events, so that they can't be compared in pairs.
    """
    first = records[0].events
    for other in records[1:]:
        if not np.array_equal(first, other.events):
            raise BadInput("runs were scored on different events", "scores", "evaluate all runs on the same shards")
    return first

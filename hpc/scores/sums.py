"""Forecast and observation → sufficient statistics of each event and class of rain rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polarcast.data.errors import BadInput
from polarcast.hpc.files import write_bytes

COLUMNS = (
    "pixels", "sum_obs", "sum_fc", "sum_abs_error", "sum_sq_error", "sum_sq_obs", "sum_sq_fc", "sum_obs_fc",
    "paper_hits", "paper_misses", "paper_false_alarms",
)  # fmt: skip
RAIN_CLASSES_MM_H = (0.0, 10.0, 30.0, 50.0)
"""Lower limits of the classes of observed rain rate; the last one is open above."""
PAPER_CSI_LEVEL = 0.35
"""The source paper's CSI counts pixels above this share of the observed frame's range."""


@dataclass(frozen=True)
class EventSums:
    """Sums per event and class of observed rain rate; those of disjoint frames add up.

    Attributes:
        events: (e,) event numbers, ascending.
        sums: (e, c, s) float64: `RAIN_CLASSES_MM_H` along c, `COLUMNS` along s.
        pixels_per_sample: Pixels of one sample, as the paper's MRE is defined on samples.
    """

    events: npt.NDArray[np.int64]
    sums: npt.NDArray[np.float64]
    pixels_per_sample: int

    @classmethod
    def of_frames(
        cls, events: npt.NDArray[np.int64], frames: npt.NDArray[np.float64], pixels_per_sample: int
    ) -> "EventSums":
        """Add up the sums (n, c, s) of frames that belong to `events` (n,)."""
        numbers, index = np.unique(events, return_inverse=True)
        sums = np.zeros((len(numbers), *frames.shape[1:]))
        np.add.at(sums, index, frames)
        return cls(numbers, sums, pixels_per_sample)


def frame_sums(forecast: Tensor, observed: Tensor) -> Tensor:
    """Sums of each frame, (n, c, s) float64.

    Args:
        forecast: (n, y, x) in mm/h.
        observed: (n, y, x) in mm/h.

    Raises:
        ValueError: the shapes differ.
    """
    if forecast.shape != observed.shape or forecast.ndim != 3:
        raise ValueError(f"expected two (n, y, x) fields, got {tuple(forecast.shape)} and {tuple(observed.shape)}")
    f, o = forecast.double(), observed.double()
    error = f - o
    above_fc, above_obs = paper_exceedance(f, o)
    terms = (
        torch.ones_like(o), o, f, error.abs(), error**2, o**2, f**2, o * f,
        (above_fc & above_obs).double(), (~above_fc & above_obs).double(), (above_fc & ~above_obs).double(),
    )  # fmt: skip
    edges = torch.tensor(RAIN_CLASSES_MM_H[1:], dtype=o.dtype, device=o.device)
    rain_class = torch.bucketize(o, edges, right=True)
    member = torch.nn.functional.one_hot(rain_class.flatten(1), len(RAIN_CLASSES_MM_H)).double()
    return torch.einsum("snp,npc->ncs", torch.stack(terms).flatten(2), member)


def paper_exceedance(forecast: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Where forecast and observation (n, y, x) exceed 0.35 of the observed frame's range; nowhere if it is constant."""
    low, high = observed.amin((-2, -1), keepdim=True), observed.amax((-2, -1), keepdim=True)
    level = torch.where(high > low, low + PAPER_CSI_LEVEL * (high - low), torch.inf)
    return forecast > level, observed > level


def write_sums(path: Path, scores: EventSums) -> None:
    """Write as Parquet, one row for each event and class of rain rate."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = len(RAIN_CLASSES_MM_H)
    flat = scores.sums.reshape(-1, len(COLUMNS))
    columns = {
        "event": np.repeat(scores.events, classes),
        "rain_from_mm_h": np.tile(RAIN_CLASSES_MM_H, len(scores.events)),
        **{name: flat[:, i] for i, name in enumerate(COLUMNS)},
    }
    table = pa.table(columns).replace_schema_metadata({"pixels_per_sample": str(scores.pixels_per_sample)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_sums(path: Path) -> EventSums:
    """Read what `write_sums` wrote. Raises BadInput when the file is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        sums = np.stack([table[name].to_numpy() for name in COLUMNS], -1)
        per_sample = int(table.schema.metadata[b"pixels_per_sample"])
    except (OSError, KeyError, pa.ArrowException) as error:
        raise BadInput(f"not a table of scores ({error})", path, "run: polarcast evaluate on the run") from None
    classes = len(RAIN_CLASSES_MM_H)
    return EventSums(table["event"].to_numpy()[::classes], sums.reshape(-1, classes, len(COLUMNS)), per_sample)


def common_events(tables: Sequence[EventSums]) -> npt.NDArray[np.int64]:
    """The events of all tables.

    Raises:
        BadInput: the tables were made on different events, so that they can't be compared in pairs.
    """
    first = tables[0].events
    for other in tables[1:]:
        if not np.array_equal(first, other.events):
            raise BadInput("runs were scored on different events", "scores", "evaluate all runs on the same shards")
    return first

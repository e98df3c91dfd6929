"""What an ingestion did, what it left out, and why."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from polarcast.data.ingest.missing import total_missing

SWEEPS = "sweeps"
"""First word of the reasons for which a volume is read without some of its sweeps."""


@dataclass
class IngestReport:
    """Result of an ingestion."""

    events: list[int] = field(default_factory=list)
    """Numbers of the events written by this call."""
    known: list[str] = field(default_factory=list)
    """Inputs that the archive already contains."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reason by input that could not be used."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Number of dropped parts of inputs by reason."""
    dropped_from: dict[str, list[str]] = field(default_factory=dict)
    """Inputs by reason for which they, or parts of them, were dropped."""
    missing: dict[str, dict[str, float]] = field(default_factory=dict)
    """Share of the echo without a value, see `missing.total_missing`."""

    def drop(self, reason: str, number: int, files: Iterable[str]) -> None:
        """Count parts of inputs that are dropped for one reason."""
        if number:
            self.dropped[reason] += number
            self.dropped_from[reason] = list(dict.fromkeys([*self.dropped_from.get(reason, ()), *files]))

    def add_notes(self, notes: Iterable[Mapping[str, Any]]) -> None:
        """Add what the notes of new events tell: frames that were left out, and values that are missing."""
        notes = list(notes)
        for note in notes:
            for reason, times in note.get("time", {}).get("left_out", {}).items():
                self.drop(reason, len(times), [source["file"] for source in note["sources"]])
            self._add_sweeps(note)
        self.missing = total_missing(notes)

    def _add_sweeps(self, note: Mapping[str, Any]) -> None:
        """Add the sweeps of volumes that were left out, unless another sweep looked at the same elevation."""
        files, volumes = [source["file"] for source in note["sources"]], note.get("volumes", ())
        of_each = [[file] for file in files] if len(files) == len(volumes) else [files] * len(volumes)
        for of_volume, volume in zip(of_each, volumes, strict=True):
            for reason, number in volume.get("left_out", {}).items():
                self.drop(reason, number * reason.startswith(SWEEPS), of_volume)

    def as_record(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return {
            "events": self.events, "known": self.known, "failed": self.failed, "dropped": dict(self.dropped),
            "dropped_from": self.dropped_from, "missing_of_echo": self.missing,
        }  # fmt: skip

"""Revision and machine that the numbers of a table came from, from the provenance of its runs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from polarcast.hpc.utils.text import printable

_SHOWN = 4
_COMMIT_LENGTH = 8


def origin_of(provenances: Iterable[Mapping[str, Any]]) -> str:
    """Return a line on where runs were made: one clause for each revision and machine that differ.

    Retrained on another machine, models come out differently, because the order of floating-point sums differs.

    Args:
        provenances: Provenance of each run; empty where it is unknown.

    Returns:
        The sentence; empty if nothing is known of any run.
    """
    counts = Counter(_described(one) for one in provenances)
    if not counts or set(counts) == {""}:
        return ""
    total = counts.total()
    several = len(counts) > 1
    texts = [
        (text or "unknown") + (f" ({count} of {total} runs)" if several else "") for text, count in counts.most_common()
    ]
    return f"Runs: {'; '.join(texts[:_SHOWN])}{'; …' * (len(texts) > _SHOWN)}."


def _described(provenance: Mapping[str, Any]) -> str:
    """Describe revision and machine of a run; empty if neither is known. Any content is accepted."""
    code, packages = (_mapping(provenance.get(key)) for key in ("code", "packages"))
    commit = str(code.get("commit") or "")[:_COMMIT_LENGTH]
    revision = f"revision {commit}{' with uncommitted changes' * bool(code.get('diff_sha256'))}" if commit else ""
    host, gpu, torch = provenance.get("host"), provenance.get("gpu"), packages.get("torch")
    parts = [provenance.get("machine"), gpu, f"torch {torch}" if torch else ""]
    machine = ", ".join(str(part) for part in parts if part)
    where = f"on {host} ({machine})" if host and machine else f"on {host or machine}" if host or machine else ""
    return printable(" ".join(filter(None, [revision, where])))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

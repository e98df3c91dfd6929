"""Findings and problems reported by the checks."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from types import MappingProxyType

OK, WARNING, FAILURE, NOT_JUDGED = "ok", "warning", "failure", "not judged"
"""Severities. What there is too little echo to judge is neither good nor bad."""
_MAX_PER_KIND = 20


@dataclass(frozen=True)
class Finding:
    """Outcome of one check: location, success, and message."""

    where: str
    ok: bool
    found: str
    severity: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "severity", self.severity or (OK if self.ok else FAILURE))

    def as_row(self) -> dict[str, object]:
        """Return the record for `--json`."""
        return asdict(self)


@dataclass(frozen=True, order=True)
class Problem:
    """Defect found by the check `kind`, with its location and a message that includes the remedy."""

    kind: str
    where: str
    found: str
    severity: str = FAILURE


def to_findings(
    problems: Iterable[Problem], passed: dict[str, str], unjudged: Mapping[str, str] = MappingProxyType({})
) -> list[Finding]:
    """Convert problems to findings, and add one finding for each kind of check that passed, or could not be made.

    At most twenty problems of one kind are listed; the rest are counted.

    Args:
        problems: Problems of all checks.
        passed: Message by kind of check; used for kinds without failures.
        unjudged: Message by kind of check, with the events that it could not judge and the reasons.
    """
    by_kind = {kind: list(group) for kind, group in groupby(sorted(problems), key=lambda p: p.kind)}
    findings = []
    for kind in dict.fromkeys([*passed, *unjudged, *by_kind]):
        found = by_kind.get(kind, [])
        if not any(p.severity == FAILURE for p in found) and kind in passed:
            findings.append(Finding(kind, True, passed[kind]))
        if kind in unjudged:
            findings.append(Finding(kind, True, unjudged[kind], NOT_JUDGED))
        findings += [Finding(p.where, p.severity != FAILURE, p.found, p.severity) for p in found[:_MAX_PER_KIND]]
        if len(found) > _MAX_PER_KIND:
            rest = found[_MAX_PER_KIND:]
            ok = all(p.severity != FAILURE for p in rest)
            findings.append(Finding(kind, ok, f"and {len(rest)} more of this kind", WARNING if ok else FAILURE))
    return findings

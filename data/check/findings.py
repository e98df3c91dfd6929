"""What a check has to say."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby

OK, WARNING, FAILURE = "ok", "warning", "failure"
_LINES_A_KIND = 20


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: where, whether it holds, and what was found."""

    where: str
    ok: bool
    found: str
    severity: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "severity", self.severity or (OK if self.ok else FAILURE))

    def as_row(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True, order=True)
class Problem:
    """A defect found by the check `kind`, at a place, told with what to do about it."""

    kind: str
    where: str
    found: str
    severity: str = FAILURE


def to_findings(problems: Iterable[Problem], sound: dict[str, str]) -> list[Finding]:
    """A line for each kind of check that found nothing (`sound`: kind → what was measured), and for each problem.

    More than twenty problems of one kind are counted, not listed.
    """
    by_kind = {kind: list(group) for kind, group in groupby(sorted(problems), key=lambda p: p.kind)}
    findings = []
    for kind in [*sound, *(k for k in by_kind if k not in sound)]:
        found = by_kind.get(kind, [])
        if not any(p.severity == FAILURE for p in found) and kind in sound:
            findings.append(Finding(kind, True, sound[kind]))
        findings += [Finding(p.where, p.severity != FAILURE, p.found, p.severity) for p in found[:_LINES_A_KIND]]
        if len(found) > _LINES_A_KIND:
            rest = found[_LINES_A_KIND:]
            ok = all(p.severity != FAILURE for p in rest)
            findings.append(Finding(kind, ok, f"and {len(rest)} more of this kind", WARNING if ok else FAILURE))
    return findings

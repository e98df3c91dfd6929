"""Sentences about the comparisons of a table, made from their intervals alone."""

import math
from collections.abc import Sequence

from polarcast.hpc.bench.contrasts import OF_ARMS, VERSUS, arm_name
from polarcast.hpc.bench.layout import HEAVY_MARK
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.stats.paired import DISTANCE, GAIN, RATIO
from polarcast.hpc.scores.wording import effect, size


def verdicts(table: ComparisonTable) -> list[str]:
    """Return a sentence for each model and comparison of a table: what its intervals show, and what they do not.

    Example: `U-Net, dual-pol vs radar: RMSE 31% lower [23%, 38%]; no difference shown: CSI ≥ 10 mm/h.`
    """
    found: dict[tuple[str, str], list[Record]] = {}
    for record in table.records:
        if record.is_comparison and not record.lacks_seeds:
            found.setdefault((record.label, record.arm), []).append(record)
    sentences = [
        f"{label}, {arm_name(arm, table.versus)}: {_sentence(_each_once(records), table)}."
        for (label, arm), records in found.items()
    ]
    lacking = dict.fromkeys(r.label for r in table.records if r.is_comparison and r.lacks_seeds)
    return sentences + ([f"Not comparable, one seed of a trained model: {'; '.join(lacking)}."] if lacking else [])


def _each_once(records: Sequence[Record]) -> list[Record]:
    """Leave out scores that are multiples of an earlier one, such as RBIAS after MRE: their ratios are equal."""
    kept: list[Record] = []
    for record in records:
        if not any(record.scale == RATIO and _is_multiple(record, other) for other in kept):
            kept.append(record)
    return kept


def _is_multiple(record: Record, other: Record) -> bool:
    pairs = zip((record.value, record.low, record.high), (other.value, other.low, other.high), strict=True)
    return all(a is not None and b is not None and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in pairs)


def _sentence(records: Sequence[Record], table: ComparisonTable) -> str:
    shown = [_shown(r, table) for r in records if r.is_significant]
    parts = [", ".join(shown)] if shown else []
    if unclear := [_name(r, table) for r in records if r.low is not None and not r.excludes_zero]:
        parts.append(f"no difference shown: {', '.join(unclear)}")
    if undefined := [_name(r, table) for r in records if r.low is None]:
        parts.append(f"not comparable: {', '.join(undefined)}")
    return "; ".join(parts)


def _shown(record: Record, table: ComparisonTable) -> str:
    """Describe an effect whose interval excludes none."""
    text, limits = _effect(record, table)
    uncorrected = "" if record.p_holm is not None and record.p_holm < 0.05 else " (not after Holm correction)"
    return f"{_name(record, table)}{HEAVY_MARK * record.is_heavy} {text} {limits}{uncorrected}"


def _effect(record: Record, table: ComparisonTable) -> tuple[str, str]:
    """Return size and direction of an effect in words, and its limits without sign, or both with it."""
    assert record.value is not None
    assert record.low is not None
    assert record.high is not None
    if record.scale == DISTANCE and (nearer := is_nearer(record, table)) is None:
        limits = f"[{effect(record.low, record.scale)}, {effect(record.high, record.scale)}]"
        return f"differs by {effect(record.value, record.scale)}", limits
    nearest, farthest = sorted((record.low, record.high), key=abs)
    limits = f"[{size(nearest, record.scale)}, {size(farthest, record.scale)}]"
    if record.scale == DISTANCE:
        direction = f"{'nearer to' if nearer else 'farther from'} {record.perfect:g}"
    else:
        direction = "lower" if (record.value < 0) != (record.scale == GAIN) else "higher"
    return f"{size(record.value, record.scale)} {direction}", limits


def is_nearer(record: Record, table: ComparisonTable) -> bool | None:
    """Return whether the second is nearer to the best value; None if the intervals of both do not show a side."""
    arms = {(r.model, r.arm): r for r in table.records if r.metric == record.metric and not r.is_comparison}
    if record.arm in OF_ARMS:
        one, other = OF_ARMS[record.arm]
        first = arms.get((record.model, one))
    else:
        model, _, arm = record.reference.partition("/")
        first, other = arms.get((model, arm)), record.arm.removesuffix(VERSUS)
    sides = {_side(r) for r in (first, arms.get((record.model, other)))}
    if len(sides) > 1 or 0 in sides:
        return None
    return (record.value or 0) * sides.pop() < 0


def _side(record: Record | None) -> int:
    """Return on which side of the best value the interval of a score lies; 0 if on both, or if it is unknown."""
    if record is None or record.low is None or record.high is None or record.perfect is None:
        return 0
    return (record.low > record.perfect) - (record.high < record.perfect)


def _name(record: Record, table: ComparisonTable) -> str:
    return parse_score(record.metric).heading(table.protocol).split(" [")[0]

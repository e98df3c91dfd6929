"""Compare what a bundle holds with what follows from its records: number by number, and text by text."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

ROUNDING = 1e-9
"""Largest relative difference of two numbers that only the order of floating-point sums makes."""
_MOST_NAMED = 5
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_LONGEST = 80
_PLACE_OF_RECORD = ("model", "arm", "metric")


@dataclass(frozen=True)
class Discrepancy:
    """A value that does not follow: where it stands, what is stored, and what was computed again."""

    where: str
    stored: str
    recomputed: str


@dataclass(frozen=True)
class Agreement:
    """Result of comparing one part of a bundle.

    Attributes:
        item: The part, such as tables/main.json.
        what: What was compared, such as numbers.
        agree: Number of those that agree.
        total: Number of those compared.
        rounding: Largest relative difference of numbers that agree but for rounding; 0 if all are equal bit by bit.
        named: The first discrepancies.
    """

    item: str
    what: str
    agree: int
    total: int
    rounding: float = 0.0
    named: tuple[Discrepancy, ...] = ()

    @property
    def is_ok(self) -> bool:
        """Whether all agrees, texts included."""
        return self.agree == self.total and not self.named

    def as_record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "item": self.item, "what": self.what, "agree": self.agree, "total": self.total, "ok": self.is_ok,
            "largest_relative_difference": self.rounding, "discrepancies": [one.__dict__ for one in self.named],
        }  # fmt: skip


class AgreementCount:
    """Counts comparisons, and keeps the first discrepancies."""

    def __init__(self) -> None:
        self.agree, self.total, self.rounding = 0, 0, 0.0
        self._named: list[Discrepancy] = []

    def number(self, where: str, stored: Any, again: Any) -> None:
        """Count a number, which may be absent (None) on either side."""
        self.total += 1
        difference = _relative(stored, again)
        if difference <= ROUNDING:
            self.agree += 1
            self.rounding = max(self.rounding, difference)
        else:
            self.differ(where, stored, again)

    def one(self, where: str, stored: object, again: object) -> None:
        """Count any value that must be equal."""
        self.total += 1
        if stored == again:
            self.agree += 1
        else:
            self.differ(where, stored, again)

    def differ(self, where: str, stored: object, again: object) -> None:
        """Name a discrepancy."""
        if len(self._named) < _MOST_NAMED:
            self._named.append(Discrepancy(where, _short(stored), _short(again)))

    def result(self, item: str, what: str) -> Agreement:
        """Return the result."""
        return Agreement(item, what, self.agree, self.total, self.rounding, tuple(self._named))


def compared_json(item: str, stored: Any, again: Any) -> Agreement:
    """Compare nested values: numbers are counted, and other values must be equal."""
    count = AgreementCount()
    _compare(count, "", stored, again)
    return count.result(item, "numbers")


def compared_lines(item: str, stored: str, again: str, what: str = "numbers") -> Agreement:
    """Compare texts line by line: numbers in them are counted, and the words between must be equal."""
    count = AgreementCount()
    for position, (one, other) in enumerate(zip_longest(stored.splitlines(), again.splitlines()), start=1):
        where, words, others = f"line {position}", *(_NUMBER.split(line or "") for line in (one, other))
        if one is None or other is None or words != others:
            count.total += max(len(words), len(others)) - 1
            count.differ(where, _from_difference(one, other), _from_difference(other, one))
            continue
        for a, b in zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True):
            count.number(f"{where}, after {_short(words[0].strip() or one)}", float(a), float(b))
    return count.result(item, what)


def compared_sentences(item: str, stored: str, again: Sequence[str]) -> Agreement:
    """Compare the sentences of a verdict, one a line."""
    count = AgreementCount()
    for position, (one, other) in enumerate(zip_longest(stored.splitlines(), again), start=1):
        count.total += 1
        if one == other:
            count.agree += 1
        else:
            count.differ(f"sentence {position}", _from_difference(one, other), _from_difference(other, one))
    return count.result(item, "sentences")


def _compare(count: AgreementCount, where: str, stored: Any, again: Any) -> None:
    if isinstance(stored, dict) and isinstance(again, dict):
        for key in dict.fromkeys((*again, *stored)):
            if key not in stored or key not in again:
                count.differ(f"{where}{key}", stored.get(key), again.get(key))
            else:
                _compare(count, f"{where}{key}", stored[key], again[key])
    elif isinstance(stored, list) and isinstance(again, list):
        if len(stored) != len(again):
            count.differ(f"{where}: length", len(stored), len(again))
        for position, (one, other) in enumerate(zip(stored, again, strict=False)):
            _compare(count, _place(where, position, other), one, other)
    elif _is_number(stored) or _is_number(again):
        count.number(where, stored, again)
    elif stored != again:
        count.differ(where, _from_difference(stored, again), _from_difference(again, stored))


def _place(where: str, position: int, item: Any) -> str:
    """Return where an item of a list stands: a number of a table by model, arm and score."""
    if isinstance(item, Mapping) and "model" in item:
        return f"{'/'.join(str(item[key]) for key in _PLACE_OF_RECORD if key in item)}: "
    return f"{where} {position + 1} "


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _relative(one: Any, other: Any) -> float:
    """Return the relative difference of two numbers; infinite if one of them is none, or of another kind."""
    if one is None or other is None or not (_is_number(one) and _is_number(other)):
        return 0.0 if one is other else math.inf
    if one == other:
        return 0.0
    try:
        largest = max(abs(float(one)), abs(float(other)))
        return abs(float(one) - float(other)) / largest
    except OverflowError:
        return math.inf


def _from_difference(text: object, other: object) -> str:
    """Return the part of a text around its first difference from another one."""
    if not isinstance(text, str) or not isinstance(other, str):
        return "nothing" if text is None else _short(text)
    first = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
    start = max(0, first - _LONGEST // 2)
    return ("…" if start else "") + text[start : start + _LONGEST] + ("…" if len(text) > start + _LONGEST else "")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def rows_of(agreements: Sequence[Agreement]) -> Iterator[str]:
    """Yield a line for each result, and below those that disagree what differs."""
    for one in agreements:
        yield f"{one.item}: {one.agree} of {one.total} {one.what} agree{_rounding(one)}"
        for found in one.named:
            yield f"  {found.where}: stored {found.stored}, recomputed {found.recomputed}"


def _rounding(one: Agreement) -> str:
    return f" (but for rounding, by {one.rounding:.1g} at most)" if one.rounding else ""

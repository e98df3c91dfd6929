"""Splits into train, validation and test events; whole events, so windows of one storm never cross a split."""

import hashlib
from collections.abc import Sequence

from polarcast.data.errors import BadInput

DEFAULT_RULE = "0.7/0.1/0.2"
SPLITS = ("train", "validation", "test")
PAPER_TEST_EVENTS = range(11)
_PAPER_VALIDATION_SHARE = 0.1

Splits = dict[str, tuple[int, ...]]


def default_rule(events: Sequence[int]) -> str:
    """Return the default shares of train, validation and test, or `all-test` for fewer than three events."""
    return DEFAULT_RULE if len(events) >= len(SPLITS) else "all-test"


def assign(events: Sequence[int], rule: str, seed: int = 0) -> Splits:
    """Assign each event to one split.

    Args:
        events: Event numbers.
        rule: `paper` (events 000–010 for test, as in the source paper, §7; a tenth of the rest for validation),
            `all-test`, or three shares `train/validation/test` such as `0.6/0.15/0.25`.
        seed: Seed of the event order under random rules; the same seed gives the same splits on any machine.

    Raises:
        BadInput: Unknown rule, shares that do not sum to 1, or an empty split.
    """
    if rule == "all-test":
        return {"train": (), "validation": (), "test": tuple(sorted(events))}
    if rule == "paper":
        return _paper(events, seed)
    _, validation, test = _parse_shares(rule)
    drawn = _shuffled(events, seed)
    # A positive share gets at least one event, even if it rounds to zero.
    held_out = max(validation > 0, round(validation * len(drawn)))
    tested = max(test > 0, round(test * len(drawn)))
    return _checked(drawn[held_out + tested :], drawn[:held_out], drawn[held_out : held_out + tested])


def hold_out(events: Sequence[int], share: float, seed: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split events into those kept and a held-out share; deterministic for the same events on any machine.

    Raises:
        BadInput: One of the two parts would be empty.
    """
    drawn = _shuffled(events, seed)
    count = round(share * len(drawn))
    if not 0 < count < len(drawn):
        raise BadInput(
            f"holding out {share} of {len(drawn)} events leaves one part empty", "data.hold_out", "change it"
        )
    return tuple(sorted(drawn[count:])), tuple(sorted(drawn[:count]))


def _paper(events: Sequence[int], seed: int) -> Splits:
    test = [e for e in events if e in PAPER_TEST_EVENTS]
    rest = _shuffled([e for e in events if e not in PAPER_TEST_EVENTS], seed)
    held_out = max(1, round(_PAPER_VALIDATION_SHARE * len(rest)))
    return _checked(rest[held_out:], rest[:held_out], test)


def _checked(train: Sequence[int], validation: Sequence[int], test: Sequence[int]) -> Splits:
    splits = {n: tuple(sorted(e)) for n, e in zip(SPLITS, (train, validation, test), strict=True)}
    empty = [name for name, members in splits.items() if not members]
    if empty:
        raise BadInput(f"no event left for {', '.join(empty)}", "split", "add events, or use --split all-test")
    return splits


def _parse_shares(rule: str) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(s) for s in rule.split("/"))
    except ValueError:
        raise BadInput(
            f"unknown split rule {rule!r}", "--split", "choose paper, all-test, or shares such as 0.6/0.15/0.25"
        ) from None
    if not (abs(train + validation + test - 1) <= 1e-6 and min(train, validation, test) >= 0):
        raise BadInput(f"the shares {rule} do not sum to 1", "--split", "give shares such as 0.6/0.15/0.25")
    return train, validation, test


def _shuffled(events: Sequence[int], seed: int) -> list[int]:
    # A hash instead of a random generator: the order cannot change between library versions.
    return sorted(events, key=lambda e: hashlib.sha256(f"{seed}/{e}".encode()).digest())

"""Splits into train, validation and test events; whole groups of events, so that no storm is in two splits.

Shares are shares of events. Groups are taken in the order of a hash of their lowest event number, first for validation,
then for test; train gets the rest. A group is taken if that brings the number of events nearer to the share, and passed
over otherwise. With every event its own group, that is the order of the hash alone.

`leave-one-out/K` is fold K of as many as there are groups: group K, in the order of the lowest event numbers, is the
test split. The folds have disjoint test events, so that the score records of all folds merge into those of all events.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence

from polarcast.data.errors import BadInput

DEFAULT_RULE = "0.7/0.1/0.2"
SPLITS = ("train", "validation", "test")
PAPER_TEST_EVENTS = range(11)
_PAPER_VALIDATION_SHARE = 0.1

LEAVE_ONE_OUT = "leave-one-out"
_FOLD = re.compile(rf"{LEAVE_ONE_OUT}/([0-9]{{1,6}})")
_FOLD_VALIDATION_SHARE = 0.2
_FEWEST_TO_VALIDATE = 3
"""Groups that are left, below which none is set aside for validation: a placebo takes two groups for training."""
_GROUPS_FIX = "give smaller groups by a table, --groups TABLE"

Splits = dict[str, tuple[int, ...]]
_Group = tuple[int, ...]
_RULES = ("all-test", "paper")


def default_rule(events: Sequence[int], groups: Mapping[int, str] | None = None) -> str:
    """Return the default shares of train, validation and test, or `all-test` for fewer than three groups."""
    return DEFAULT_RULE if len(_drawn(events, 0, groups)) >= len(SPLITS) else "all-test"


def check_rule(rule: str) -> None:
    """Check a rule that assigns events to splits.

    Raises:
        BadInput: Unknown rule, or shares that do not sum to 1.
    """
    if rule not in _RULES and _fold_of(rule) is None:
        _parse_shares(rule)


def assign(events: Sequence[int], rule: str, seed: int = 0, groups: Mapping[int, str] | None = None) -> Splits:
    """Assign each event to one split, all events of a group to the same.

    Args:
        events: Event numbers.
        rule: `paper` (events 000–010 for test, as in the source paper, §7; a tenth of the rest for validation),
            `all-test`, three shares `train/validation/test` such as `0.6/0.15/0.25`, or `leave-one-out/K`: group K for
            test, a fifth of the others for validation. If fewer than three are left, they are validated on, too.
        seed: Seed of the order of groups under random rules; the same seed gives the same splits on any machine.
        groups: Group by event; an event without one is its own group.

    Raises:
        BadInput: Unknown rule or fold, shares that do not sum to 1, an empty split, or a group that `paper` would
            divide.
    """
    if rule == "all-test":
        return {"train": (), "validation": (), "test": tuple(sorted(events))}
    if rule == "paper":
        return _paper(events, seed, groups)
    if (fold := _fold_of(rule)) is not None:
        return _leave_one_out(events, fold, seed, groups)
    _, validation, test = _parse_shares(rule)
    drawn = _drawn(events, seed, groups)
    # A positive share gets at least one event, even if it rounds to zero.
    held_out = max(validation > 0, round(validation * len(events)))
    tested = max(test > 0, round(test * len(events)))
    if len(drawn) < len(SPLITS) <= len(events):
        found = f"{len(events)} events of {_count(drawn)} can't fill train, validation and test"
        raise BadInput(found, "split", f"use the split all-test, or {_GROUPS_FIX}")
    later = 1 + (test > 0)
    in_validation, left = _take(drawn, held_out, leave=later if held_out + tested < len(events) else 0)
    in_test, in_train = _take(left, tested, leave=later - 1 if held_out + tested < len(events) else 0)
    return _checked(_flat(in_train), _flat(in_validation), _flat(in_test))


def hold_out(
    events: Sequence[int], share: float, seed: int = 0, groups: Mapping[int, str] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split events into those kept and a held-out share of whole groups; deterministic on any machine.

    Raises:
        BadInput: One of the two parts would be empty.
    """
    drawn = _drawn(events, seed, groups)
    count = round(share * len(events))
    if not (0 < count < len(events) and len(drawn) > 1):
        of_groups = "" if len(drawn) == len(events) else f" of {_count(drawn)}"
        what = f"holding out {share} of {len(events)} events{of_groups} leaves one part empty"
        raise BadInput(what, "data.hold_out", "change it")
    held_out, kept = _take(drawn, count, leave=1)
    return tuple(sorted(_flat(kept))), tuple(sorted(_flat(held_out)))


def _paper(events: Sequence[int], seed: int, groups: Mapping[int, str] | None) -> Splits:
    test = [e for e in events if e in PAPER_TEST_EVENTS]
    rest = _drawn([e for e in events if e not in PAPER_TEST_EVENTS], seed, groups)
    tested = {_group_of(e, groups) for e in test}
    if divided := sorted({_group_of(e, groups) for group in rest for e in group} & tested):
        what = f"the rule paper divides the group {divided[0]!r}"
        raise BadInput(what, "split", f"use shares such as 0.7/0.1/0.2, or {_GROUPS_FIX}")
    held_out = max(1, round(_PAPER_VALIDATION_SHARE * sum(map(len, rest))))
    in_validation, in_train = _take(rest, held_out, leave=0)
    return _checked(_flat(in_train), _flat(in_validation), test)


def count_folds(events: Collection[int], groups: Mapping[int, str] | None = None) -> int:
    """Return how many folds of `leave-one-out/K` there are: one for each group."""
    return len(_drawn(events, 0, groups))


def note_of(rule: str | None, splits: Splits) -> str:
    """Return what readers of shards must know of their splits; empty for usual splits."""
    if rule is None or _fold_of(rule) is None:
        return ""
    same = splits["validation"] == splits["train"]
    return f"{rule}: validated on {'the training events, too few to set some aside' if same else 'other groups'}"


def _fold_of(rule: str) -> int | None:
    """Return K of `leave-one-out/K`; None for other rules."""
    found = _FOLD.fullmatch(rule)
    return int(found[1]) if found else None


def _leave_one_out(events: Sequence[int], fold: int, seed: int, groups: Mapping[int, str] | None) -> Splits:
    drawn = _drawn(events, seed, groups)
    if len(drawn) < 2:
        raise BadInput("there is one group of events, and none is left to train on", "split", _GROUPS_FIX)
    if not 1 <= fold <= len(drawn):
        what = f"there are {len(drawn)} groups of events, and so no fold {fold}"
        raise BadInput(what, "split", f"give {LEAVE_ONE_OUT}/1 to {LEAVE_ONE_OUT}/{len(drawn)}")
    test = sorted(drawn, key=lambda group: group[0])[fold - 1]
    others = [group for group in drawn if group != test]
    if len(others) < _FEWEST_TO_VALIDATE:
        return _checked(_flat(others), _flat(others), test)
    count = max(1, round(_FOLD_VALIDATION_SHARE * sum(map(len, others))))
    in_validation, in_train = _take(others, count, leave=2)
    return _checked(_flat(in_train), _flat(in_validation), test)


def _take(drawn: Sequence[_Group], count: int, leave: int) -> tuple[list[_Group], list[_Group]]:
    """Take whole groups until no further one brings their events nearer to `count`; at least one if it is positive.

    Returns:
        The groups taken, and the others, of which there are at least `leave`; both in the order of `drawn`.
    """
    taken: list[int] = []
    events = 0
    for index, group in enumerate(drawn):
        is_nearer = abs(events + len(group) - count) < abs(events - count)
        if is_nearer and len(drawn) - len(taken) > leave:
            taken.append(index)
            events += len(group)
    if count > 0 and not taken and len(drawn) > leave:
        taken = [min(range(len(drawn)), key=lambda index: len(drawn[index]))]
    chosen = set(taken)
    return [drawn[i] for i in taken], [group for i, group in enumerate(drawn) if i not in chosen]


def _drawn(events: Collection[int], seed: int, groups: Mapping[int, str] | None) -> list[_Group]:
    """Return the groups in the order of a hash of their lowest event number, by which their size has no influence."""
    members: dict[str | int, list[int]] = {}
    for event in sorted(events):
        members.setdefault(_group_of(event, groups), []).append(event)
    # A hash instead of a random generator: the order cannot change between library versions.
    of_first = {group[0]: tuple(group) for group in members.values()}
    return [of_first[e] for e in sorted(of_first, key=lambda e: hashlib.sha256(f"{seed}/{e}".encode()).digest())]


def _group_of(event: int, groups: Mapping[int, str] | None) -> str | int:
    return event if groups is None else groups.get(event, event)


def _flat(groups: Sequence[_Group]) -> list[int]:
    return [event for group in groups for event in group]


def _count(drawn: Sequence[_Group]) -> str:
    return "one group" if len(drawn) == 1 else f"{len(drawn)} groups"


def _checked(train: Sequence[int], validation: Sequence[int], test: Sequence[int]) -> Splits:
    splits = {n: tuple(sorted(e)) for n, e in zip(SPLITS, (train, validation, test), strict=True)}
    empty = [name for name, members in splits.items() if not members]
    if empty:
        what = f"no event left for {', '.join(empty)}"
        raise BadInput(what, "split", "add events, change the shares, or use the split all-test")
    return splits


def _parse_shares(rule: str) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(s) for s in rule.split("/"))
    except ValueError:
        raise BadInput(
            f"unknown split rule {rule!r}",
            "--split",
            f"choose paper, all-test, {LEAVE_ONE_OUT}/1, or shares such as 0.6/0.15/0.25",
        ) from None
    if not (abs(train + validation + test - 1) <= 1e-6 and min(train, validation, test) >= 0):
        raise BadInput(f"the shares {rule} do not sum to 1", "--split", "give shares such as 0.6/0.15/0.25")
    return train, validation, test

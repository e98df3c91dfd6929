import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.splits import assign, check_rule, count_folds, default_rule, hold_out, note_of

events = st.sets(st.integers(0, 500), min_size=20, max_size=300).map(sorted)


@given(events, st.sampled_from(["0.6/0.15/0.25", "0.5/0.2/0.3", "all-test"]), st.integers(0, 99))
def test_every_event_is_in_exactly_one_split(numbers: list[int], rule: str, seed: int) -> None:
    splits = assign(numbers, rule, seed)
    assert sorted(e for members in splits.values() for e in members) == numbers


def test_the_paper_split_uses_the_first_eleven_events_for_test() -> None:
    splits = assign(range(258), "paper")
    assert splits["test"] == tuple(range(11))
    assert len(splits["validation"]) == 25
    assert set(splits["train"]).isdisjoint(splits["validation"])


def test_each_positive_share_gets_at_least_one_event() -> None:
    assert {name: len(events) for name, events in assign(range(4), "0.9/0.05/0.05").items()} == {
        "train": 2, "validation": 1, "test": 1,
    }  # fmt: skip


def test_an_archive_too_small_to_split_is_all_test_events() -> None:
    assert default_rule([7]) == "all-test"
    assert assign(range(3), default_rule(range(3)))["train"]


def test_the_split_depends_on_the_seed_only() -> None:
    assert assign(range(50), "0.6/0.2/0.2", 1) == assign(list(reversed(range(50))), "0.6/0.2/0.2", 1)
    assert assign(range(50), "0.6/0.2/0.2", 1) != assign(range(50), "0.6/0.2/0.2", 2)


@pytest.mark.parametrize("rule", ["0.6/0.3/0.3", "1.2/-0.1/-0.1", "half", "0.5/0.5", "1/0/0"])
def test_an_invalid_rule_is_rejected(rule: str) -> None:
    with pytest.raises(BadInput):
        assign(range(20), rule)


@given(st.integers(2, 300), st.floats(0.05, 0.95))
def test_hold_out_partitions_the_events(count: int, share: float) -> None:
    if not 0 < round(share * count) < count:
        with pytest.raises(BadInput, match="hold_out"):
            hold_out(range(count), share)
        return
    kept, held_out = hold_out(range(count), share)
    assert sorted(kept + held_out) == list(range(count))
    assert len(held_out) == round(share * count)
    assert hold_out(list(reversed(range(count))), share) == (kept, held_out)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[int], dict[int, str]]:
    """Return events in groups of very different sizes."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=3, max_size=40))
    numbers = draw(st.permutations(range(sum(sizes))))
    names = [name for name, size in enumerate(sizes) for _ in range(size)]
    return list(numbers), {event: f"g{name}" for event, name in zip(numbers, names, strict=True)}


RULES = st.sampled_from(["0.7/0.1/0.2", "0.6/0.15/0.25", "0.34/0.33/0.33", "0.9/0.05/0.05"])


@given(grouped(), RULES, st.integers(0, 99))
def test_no_group_is_in_two_splits(of: tuple[list[int], dict[int, str]], rule: str, seed: int) -> None:
    numbers, groups = of
    splits = assign(numbers, rule, seed, groups)
    held = {name: {groups[e] for e in members} for name, members in splits.items()}
    assert sum(map(len, held.values())) == len(set(groups.values()))
    assert all(held.values())
    assert sorted(e for members in splits.values() for e in members) == sorted(numbers)
    assert assign(sorted(numbers), rule, seed, dict(sorted(groups.items()))) == splits


@given(grouped(), RULES, st.integers(0, 99))
def test_shares_of_groups_are_met_to_half_a_group(of: tuple[list[int], dict[int, str]], rule: str, seed: int) -> None:
    numbers, groups = of
    sizes = [list(groups.values()).count(name) for name in set(groups.values())]
    validation = round(float(rule.split("/")[1]) * len(numbers))
    found = len(assign(numbers, rule, seed, groups)["validation"])
    assert found <= validation + max(sizes) / 2 or found == min(sizes)


@given(grouped(), st.floats(0.05, 0.95))
def test_hold_out_keeps_groups_whole(of: tuple[list[int], dict[int, str]], share: float) -> None:
    numbers, groups = of
    if not 0 < round(share * len(numbers)) < len(numbers):
        return
    kept, held_out = hold_out(numbers, share, groups=groups)
    assert {groups[e] for e in kept}.isdisjoint({groups[e] for e in held_out})
    assert kept
    assert held_out
    assert sorted(kept + held_out) == sorted(numbers)


def shuffled(numbers: list[int], seed: int) -> list[int]:
    return sorted(numbers, key=lambda e: hashlib.sha256(f"{seed}/{e}".encode()).digest())


@given(events, st.sampled_from(["0.6/0.15/0.25", "0.5/0.2/0.3", "0.9/0.05/0.05"]), st.integers(0, 99))
def test_with_every_event_its_own_group_splits_are_slices_of_the_order(
    numbers: list[int], rule: str, seed: int
) -> None:
    """These are the splits of all runs that were made before there were groups."""
    own = {event: f"{event:03d}" for event in numbers}
    splits = assign(numbers, rule, seed, own)
    assert splits == assign(numbers, rule, seed)
    validation, test = (max(1, round(float(share) * len(numbers))) for share in rule.split("/")[1:])
    order = shuffled(numbers, seed)
    assert splits["validation"] == tuple(sorted(order[:validation]))
    assert splits["test"] == tuple(sorted(order[validation : validation + test]))
    assert hold_out(numbers, 0.3, seed, own) == hold_out(numbers, 0.3, seed)
    assert hold_out(numbers, 0.3, seed)[1] == tuple(sorted(order[: round(0.3 * len(numbers))]))


def test_too_few_groups_are_refused_with_their_number() -> None:
    one, two = dict.fromkeys(range(6), "a"), {e: "ab"[e % 2] for e in range(6)}
    with pytest.raises(BadInput, match="6 events of one group can't fill train, validation and test"):
        assign(range(6), "0.7/0.1/0.2", groups=one)
    with pytest.raises(BadInput, match="6 events of 2 groups"):
        assign(range(6), "0.7/0.1/0.2", groups=two)
    with pytest.raises(BadInput, match="of 6 events of one group leaves one part empty"):
        hold_out(range(6), 0.5, groups=one)
    assert default_rule(range(6), one) == default_rule(range(6), two) == "all-test"
    assert default_rule(range(6), {0: "a", 1: "a"}) != "all-test"


def test_three_groups_fill_three_splits_however_uneven() -> None:
    groups = {e: "big" if e < 100 else f"{e}" for e in range(102)}
    splits = assign(range(102), "0.7/0.1/0.2", groups=groups)
    assert sorted(map(len, splits.values())) == [1, 1, 100]
    assert len(splits["train"]) == 100


def test_the_rule_paper_does_not_divide_a_group() -> None:
    with pytest.raises(BadInput, match="divides the group 'storm'"):
        assign(range(40), "paper", groups={10: "storm", 11: "storm"})
    assert assign(range(40), "paper", groups={e: f"{e:03d}" for e in range(40)}) == assign(range(40), "paper")
    splits = assign(range(40), "paper", groups={20: "storm", 21: "storm"})
    assert {20, 21} <= set(splits["train"]) or {20, 21} <= set(splits["validation"])


@st.composite
def grouped_events(draw: st.DrawFn) -> tuple[list[int], dict[int, str]]:
    numbers = sorted(draw(st.sets(st.integers(0, 60), min_size=2, max_size=25)))
    return numbers, {event: draw(st.sampled_from("abcdefg")) for event in numbers}


@given(grouped_events(), st.integers(0, 9))
def test_folds_leave_out_each_group_once(given_events: tuple[list[int], dict[int, str]], seed: int) -> None:
    numbers, groups = given_events
    count = len(set(groups.values()))
    assert count_folds(numbers, groups) == count
    if count == 1:
        with pytest.raises(BadInput, match="none is left to train on"):
            assign(numbers, "leave-one-out/1", seed, groups)
        return
    folds = [assign(numbers, f"leave-one-out/{fold}", seed, groups) for fold in range(1, count + 1)]
    assert sorted(event for fold in folds for event in fold["test"]) == numbers
    assert [min(fold["test"]) for fold in folds] == sorted(min(fold["test"]) for fold in folds)
    for fold in folds:
        parts = {name: {groups[event] for event in events} for name, events in fold.items()}
        assert len(parts["test"]) == 1
        assert not parts["test"] & (parts["train"] | parts["validation"])
        assert set(numbers) == {event for events in fold.values() for event in events}
        if count > 3:
            assert not parts["train"] & parts["validation"]
            assert len(parts["train"]) >= 2
            assert not note_of("leave-one-out/1", fold).endswith("aside")
        else:
            assert fold["train"] == fold["validation"]
            assert note_of("leave-one-out/2", fold).startswith("leave-one-out/2: validated on the training events")


def test_unknown_folds_are_rejected() -> None:
    for rule in ("leave-one-out/0", "leave-one-out/6"):
        with pytest.raises(BadInput, match=r"there are 5 groups .* give leave-one-out/1 to leave-one-out/5"):
            assign(range(5), rule)
    for rule in ("leave-one-out", "leave-one-out/-1", "leave-one-out/1/2", "leave-one-out/x"):
        with pytest.raises(BadInput, match="unknown split rule"):
            check_rule(rule)
    check_rule("leave-one-out/3")
    assert note_of("0.6/0.2/0.2", assign(range(9), "0.6/0.2/0.2")) == ""
    assert note_of(None, assign(range(9), "all-test")) == ""

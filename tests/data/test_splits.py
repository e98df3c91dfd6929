import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.splits import assign, default_rule, hold_out

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

"""Search parameters: kinds, conditions, grids and perturbation."""

import random
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.sweeps.parameters import Choice, Range, encoded, grid, parse_parameter, suggest
from polarcast.sweeps.population import explore
from polarcast.sweeps.record import key_of
from polarcast.sweeps.study import FixedPoint

KINDS = [
    parse_parameter("net", {"choice": ["a", "b"]}),
    parse_parameter("depth", {"integer": [1, 5], "when": {"net": "b"}}),
    parse_parameter("rate", {"log_uniform": [1e-4, 1e-2]}),
    parse_parameter("widths", {"choice": [[8, 16], [16]], "when": {"net": ["a", "b"]}}),
]


def test_parameter_kinds_are_parsed() -> None:
    net, depth, rate, widths = KINDS
    assert isinstance(net, Choice)
    assert widths.extremes == [[8, 16], [16]]
    assert isinstance(depth, Range)
    assert (depth.extremes, depth.is_integer, depth.log) == ([1, 5], True, False)
    assert isinstance(rate, Range)
    assert (rate.is_integer, rate.log) == (False, True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_suggestions_are_in_range_and_satisfy_conditions(seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(3):
        trial = study.ask()
        point = suggest(KINDS, trial)
        assert 1e-4 <= point["rate"] <= 1e-2
        assert point["widths"] in ([8, 16], [16])
        assert ("depth" in point) == (point["net"] == "b")
        assert point.get("depth", 1) in range(1, 6)
        # The values stored by Optuna decode to the same point.
        assert encoded(KINDS, point) == trial.params
        again = suggest(KINDS, FixedPoint(trial.params))  # type: ignore[arg-type]
        assert key_of(again) == key_of(point)
        study.tell(trial, 0.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_explored_points_are_in_range_and_satisfy_conditions(seed: int) -> None:
    draw, point = random.Random(seed), {"net": "b", "depth": 2, "rate": 2e-3, "widths": [16]}
    for _ in range(5):
        point = explore(KINDS, point, draw)
        assert 1e-4 <= point["rate"] <= 1e-2
        assert point["widths"] in ([8, 16], [16])
        assert ("depth" in point) == (point["net"] == "b")
        assert point.get("depth", 1) in range(1, 6)


def test_explore_scales_most_numbers_by_a_fifth() -> None:
    start, draw = {"net": "b", "depth": 3, "rate": 1e-3, "widths": [16]}, random.Random(0)
    rates = [explore(KINDS, start, draw)["rate"] for _ in range(400)]
    near = [rate for rate in rates if rate == pytest.approx(1.2e-3) or rate == pytest.approx(1e-3 / 1.2)]
    assert 0.65 < len(near) / len(rates) < 0.85


def test_grid_has_every_valid_combination_once() -> None:
    points = grid(KINDS, 3)
    assert len(points) == 3 * 2 + 3 * 3 * 2
    assert len({key_of(point) for point in points}) == len(points)
    assert sorted({point["rate"] for point in points}) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert {point["depth"] for point in points if point["net"] == "b"} == {1, 3, 5}
    assert not any("depth" in point for point in points if point["net"] == "a")


def test_integer_grid_has_no_duplicates() -> None:
    assert parse_parameter("n", {"integer": [1, 2]}).grid(5) == [1, 2]
    assert parse_parameter("n", {"log_integer": [1, 64]}).grid(4) == [1, 4, 16, 64]


@pytest.mark.parametrize(
    "content",
    [
        {"choose": [1]}, {"choice": []}, {"choice": "abc"}, {"uniform": [1]}, {"uniform": [2, 1]},
        {"log_uniform": [0, 1]}, {"integer": [1.5, 3]}, {"choice": [1], "uniform": [0, 1]}, 3, {"uniform": [True, 2]},
    ],
)  # fmt: skip
def test_invalid_parameter_is_rejected_with_its_key(content: Any) -> None:
    with pytest.raises(BadInput, match=r"model\.key"):
        parse_parameter("model.key", content)

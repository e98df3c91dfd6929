"""Undefined scores are NaN with a reason, and every value has a number of pixels that it rests on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polarcast.hpc.scores.continuous import continuous, moments
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score, expand, parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import FAMILIES, score_fields
from tests.support.fields import PAIRS, rain

RELATIVE = ("cc", "explained_variance", "msess", "kge")


def records(forecast: Tensor, observed: Tensor, unit: str = "mm/h") -> Records:
    protocol = Protocol(unit, tuple(observed.shape[1:]), forecast.shape[1])  # type: ignore[arg-type]
    sums = {name: of.double().numpy()[:, None, None] for name, of in score_fields(forecast, observed, protocol).items()}
    return Records.of_windows(protocol, np.arange(len(observed)), sums)


def value(text: str, of: Records) -> float:
    score = parse_score(text)
    return float(score.of(score.sums(of).sum(0), of.protocol))


def reason(text: str, of: Records) -> str:
    score = parse_score(text)
    return score.reason(score.sums(of).sum(0), of.protocol)


@settings(max_examples=30, deadline=None)
@given(constant=st.floats(0.0625, 500, width=32), events=st.integers(1, 300), side=st.integers(1, 40))
def test_a_constant_observation_has_no_variance_however_it_is_added_up(constant: float, events: int, side: int) -> None:
    """The variance of rounded sums is not 0, but around ±1e-15 of the mean square."""
    observed = torch.full((1, side, side), constant)
    sums = moments(observed + rain(1, 1, 40)[:, :side, :side], observed).sum((0, 1)).numpy()
    total = np.zeros(8)
    for _ in range(events):
        total += sums
    for name in RELATIVE:
        assert np.isnan(continuous(name, total)), name


def test_a_nearly_constant_observation_has_a_variance() -> None:
    observed = torch.full((1, 64, 64), 40.0)
    observed[0, 0, 0] = 40.5
    forecast = observed + 0.1
    sums = moments(forecast, observed).sum((0, 1)).numpy()
    assert continuous("cc", sums) == pytest.approx(1, abs=1e-3)
    assert continuous("explained_variance", sums) == pytest.approx(1, abs=1e-3)


def test_a_constant_forecast_has_no_correlation_but_explains_nothing() -> None:
    sums = moments(torch.full((4, 32, 32), 0.1), rain(2)).sum((0, 1)).numpy()
    assert np.isnan(continuous("cc", sums))
    assert np.isnan(continuous("kge", sums))
    assert continuous("explained_variance", sums) == pytest.approx(0, abs=1e-9)


def test_a_constant_observation_has_no_power_at_any_scale() -> None:
    found = records(rain(1)[:, None], torch.full((4, 32, 32), 0.1))
    for wavenumber in (1, 5, 12):
        assert np.isnan(value(f"power@wavenumber={wavenumber}", found))
    assert np.isnan(value("lost_variance", found))
    assert reason("lost_variance", found) == "the observation is constant"
    assert reason("power@wavenumber=5", found) == "the observation has no power at this scale"
    swapped = records(torch.full((4, 1, 32, 32), 0.1), rain(1))
    assert value("power@wavenumber=5", swapped) == 0
    assert value("lost_variance", swapped) == 1


def test_events_everywhere_give_no_ets_however_many() -> None:
    from polarcast.hpc.scores.categorical import categorical

    for pixels in (3.0, 94906267.0, 1e8 + 7, 3.3e12 + 1):  # n · n / n is rounded
        assert np.isnan(categorical("ets", np.array([pixels, 0, 0, 0])))


def test_a_ratio_to_a_sum_that_is_not_positive_is_undefined() -> None:
    found = records(rain(1)[:, None] - 40, rain(2) - 40, "dBZ")
    for name in ("ne", "nb", "paper_rbias", "paper_mre", "kge"):
        assert np.isnan(value(name, found)), name
        assert reason(name, found) == "the observations do not add up to more than 0"


ONE_EVENT = torch.zeros(2, 16, 16)
ONE_EVENT[0, 4, 4] = 20.0
DRY, WET = torch.zeros(2, 16, 16), torch.full((2, 16, 16), 60.0)


@pytest.mark.parametrize(
    ("text", "forecast", "observed", "expected"),
    [
        ("csi@threshold=10", DRY, DRY, "no event ≥ 10 mm/h"),
        ("pod@threshold=50", ONE_EVENT, ONE_EVENT, "no observed event ≥ 50 mm/h"),
        ("far@threshold=10", DRY, ONE_EVENT, "no forecast event ≥ 10 mm/h"),
        ("pofd@threshold=10", DRY, WET, "every pixel is an observed event ≥ 10 mm/h"),
        ("hk@threshold=10", DRY, WET, "every pixel is an observed event ≥ 10 mm/h"),
        ("hk@threshold=10,window=3", ONE_EVENT, DRY, "no observed event ≥ 10 mm/h"),
        ("ets@threshold=10", WET, WET, "every pixel is an observed event ≥ 10 mm/h"),
        ("sedi@threshold=10", ONE_EVENT, ONE_EVENT, "a hit rate or false alarm rate of 0 or 1"),
        ("csi@threshold=10,pool=4", DRY, DRY, "no event ≥ 10 mm/h"),
        ("paper_csi", ONE_EVENT, DRY + 3, "no event"),
        ("fss@threshold=10,window=3", DRY, DRY, "no event ≥ 10 mm/h"),
        ("sal_s", DRY, DRY, "no rain"),
        ("sal_a", DRY, DRY, "no rain"),
        ("sal_l", DRY, ONE_EVENT, "rain in forecast and observation in no field"),
        ("rmse@class=50", DRY, ONE_EVENT, "no pixel of the class"),
        ("cc", DRY, ONE_EVENT, "the forecast is constant"),
        ("kge", ONE_EVENT, WET, "the observation is constant"),
        ("msess", ONE_EVENT, WET, "the observation is constant"),
        ("nb", ONE_EVENT, DRY, "the observations do not add up to more than 0"),
        ("roc_area@threshold=10", ONE_EVENT, DRY, "no observed event ≥ 10 mm/h"),
        ("value@threshold=10", ONE_EVENT, WET, "every pixel is an observed event ≥ 10 mm/h"),
        ("brier_skill@threshold=10", ONE_EVENT, DRY, "no observed event ≥ 10 mm/h"),
        ("spread_skill", ONE_EVENT, ONE_EVENT, "the ensemble mean has no error"),
    ],
)
def test_undefined_has_a_reason(text: str, forecast: Tensor, observed: Tensor, expected: str) -> None:
    members = 2 if set(parse_score(text).metric.families) & {"probability", "spread"} else 1
    found = records(torch.stack([forecast] * members, 1), observed)
    assert np.isnan(value(text, found))
    assert reason(text, found) == expected


def test_a_defined_score_has_no_reason() -> None:
    found = records(torch.stack([rain(1), rain(2)], 1), rain(3))
    for text in ("rmse", "cc", "csi@threshold=10", "fss@threshold=5,window=9", "crps", "roc_area@threshold=10"):
        assert reason(text, found) == ""


def every_score(of: Protocol) -> list[Score]:
    found = []
    for name, metric in METRICS.items():
        for family in (FAMILIES[f] for f in metric.families if f not in ("by_change",) and FAMILIES[f].applies(of)):
            axes = [a for a in family.axes if a not in (*metric.uses, "class", "field")]
            found += expand(Score(name, dict.fromkeys(axes, "*")), of)
    return found


@pytest.mark.parametrize("pair", PAIRS)
def test_every_undefined_value_has_a_reason_and_every_value_a_support(pair: str) -> None:
    forecast, observed = PAIRS[pair]
    found = records(torch.stack([forecast, rain(7)], 1), observed)
    for score in every_score(found.protocol):
        sums = score.sums(found).sum(0)
        result, why = score.of(sums, found.protocol), score.reason(sums, found.protocol)
        assert np.isnan(result) == bool(why), score
        assert why != "undefined", score
        assert score.support(found).shape == (4,)
        low, high = score.metric.limits
        assert not result < low - 1e-9, score
        assert not result > high + 1e-9, score


def test_support_counts_what_the_value_rests_on() -> None:
    observed = rain(3)
    observed[1, :, :16] = math.nan
    forecast = torch.stack([rain(1), rain(2)], 1)
    found = records(forecast, observed)
    valid = (~observed.isnan()).sum((1, 2)).tolist()
    events, heavy = ((observed >= level).sum((1, 2)).tolist() for level in (10, 30))
    by_class = ((observed >= 10) & (observed < 30)).sum((1, 2)).tolist()
    expected = {
        "rmse": valid, "cc": valid, "rmse@class=10": by_class, "crps": valid, "spread_skill": valid, "overlap": valid,
        "rank_distance": valid, "quantile_score@quantile=0.5": valid, "lost_variance": valid, "sal_l": valid,
        "csi@threshold=10": events, "hss@threshold=30,window=9": heavy, "fss@threshold=30,window=9": heavy,
        "brier@threshold=10": events,
    }  # fmt: skip
    for text, pixels in expected.items():
        assert parse_score(text).support(found).tolist() == pixels, text
    score = parse_score("csi@threshold=10")
    assert score.pixels(score.sums(found).sum(0), found.protocol) == sum(events)
    assert score.pixels(score.sums(found), found.protocol).tolist() == events
    windowed = parse_score("fss@threshold=10,window=9")
    assert np.isnan(windowed.pixels(windowed.sums(found), found.protocol)).tolist() == [True] * 4
    assert np.isnan(
        parse_score("lost_variance").pixels(parse_score("lost_variance").sums(found).sum(0), found.protocol)
    )


def test_pixels_of_a_lead_time_and_change_are_those_selected() -> None:
    protocol = Protocol("dBZ", (16, 16), lead_time=(6.0, 12.0), threshold=(20.0,))
    fields = rain(2, 4, 16)
    sums = score_fields(fields[:, None], fields, protocol)
    by_lead = {name: of.double().numpy().reshape(2, 2, 1, *of.shape[1:]) for name, of in sums.items()}
    found = Records.of_windows(protocol, np.arange(2), by_lead)
    expected = (fields >= 20).sum((1, 2)).reshape(2, 2)
    for text, pixels in (("csi@threshold=20", expected.sum(1)), ("csi@threshold=20,lead_time=12", expected[:, 1])):
        assert parse_score(text).support(found).tolist() == pixels.tolist()
    nothing = parse_score("csi@threshold=20,change=grows")
    assert nothing.reason(np.zeros(4), protocol) == "no field where echo grows"


class TestDirections:
    """Every score says which values are better, and on which scale two of them are compared."""

    def test_directions(self) -> None:
        targets = {name for name, metric in METRICS.items() if metric.direction == "target"}
        assert targets == {"nb", "bias", "spread_skill", "power", "lost_variance"}
        none = {name for name, metric in METRICS.items() if metric.direction == "none"}
        assert none == {"hk_gain", "pod_gain", "pofd_gain"}
        for metric in (METRICS[name] for name in set(METRICS) - none):
            low, high = metric.limits
            best = {"lower": low, "higher": high, "target": metric.perfect}[metric.direction]
            assert best == metric.perfect
            assert (metric.scale == "distance") == (low < metric.perfect < high)

    def test_ratios_are_of_errors_without_an_upper_limit_but_the_brier_score(self) -> None:
        ratios = {name for name, metric in METRICS.items() if metric.scale == "ratio"}
        assert ratios == {
            "paper_mse", "paper_mre", "paper_rbias", "rmse", "mae", "ne", "crps", "quantile_score", "brier",
        }  # fmt: skip
        assert all(METRICS[name].perfect == 0 and METRICS[name].limits[0] == 0 for name in ratios)

    def test_scores_that_are_the_same_have_proportional_logarithms_of_their_ratios(self) -> None:
        found = [records(rain(seed)[:, None], rain(9)) for seed in (1, 2, 3)]
        same = {name: metric.same_as for name, metric in METRICS.items() if metric.same_as}
        assert same == {"rmse": "paper_mse", "paper_mre": "paper_rbias", "ne": "paper_rbias"}
        assert {name for name, metric in METRICS.items() if metric.is_multiple} == {"paper_mre", "ne"}
        for name, other in same.items():
            first, second, third = ([math.log(value(n, of)) for n in (name, other)] for of in found)
            slope = (second[0] - first[0]) / (second[1] - first[1])
            assert (third[0] - first[0]) == pytest.approx(slope * (third[1] - first[1]), rel=1e-6)

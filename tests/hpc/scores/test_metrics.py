import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score, expand, parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import score_fields
from tests.support.fields import rain

PROTOCOL = Protocol(unit="mm/h", shape=(32, 32))


def records(forecast: torch.Tensor, observed: torch.Tensor) -> Records:
    """Return records of fields (n, m, y, x) and (n, y, x), one event each."""
    protocol = Protocol(unit="mm/h", shape=tuple(observed.shape[1:]), members=forecast.shape[1])  # type: ignore[arg-type]
    sums = score_fields(forecast, observed, protocol)
    events = np.arange(len(observed))
    return Records.of_windows(protocol, events, {n: s.double().numpy()[:, None, None] for n, s in sums.items()})


def value(text: str, of: Records) -> float:
    score = parse_score(text)
    return float(score.of(score.sums(of).sum(0), of.protocol))


def tiny(text: str, forecast: list[list[float]], observed: list[list[float]]) -> float:
    return value(text, records(torch.tensor([[forecast]]), torch.tensor([observed])))


FORECAST, OBSERVED = [[1.0, 4.0], [0.0, 10.0]], [[2.0, 4.0], [1.0, 20.0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("paper_mse", (1 + 0 + 1 + 100) / 4),
        ("rmse", (102 / 4) ** 0.5),
        ("mae", 12 / 4),
        ("paper_rbias", 12 / 27),
        ("ne", 100 * 12 / 27),
        ("nb", -100 * 12 / 27),
        ("paper_mre", (12 / 4) / 27),
        ("rmse@class=0", (2 / 3) ** 0.5),
        ("rmse@class=10", 10.0),
        ("mae@class=0-30", 3.0),
        ("csi@threshold=5", 1.0),
        ("csi@threshold=1", 3 / 4),
        ("crps", 3.0),
        # level 1 + 0.35 · 19 = 7.65: one hit
        ("paper_csi", 1.0),
    ],
)
def test_metrics_equal_hand_computed_values(text: str, expected: float) -> None:
    assert tiny(text, FORECAST, OBSERVED) == pytest.approx(expected)


def test_paper_csi_uses_a_threshold_relative_to_the_observed_range() -> None:
    # range 0 … 10, level 3.5: hit, miss, false alarm, correct negative
    assert tiny("paper_csi", [[9.0, 0.0], [4.0, 1.0]], [[10.0, 5.0], [3.0, 0.0]]) == pytest.approx(1 / 3)


def test_mre_and_rbias_differ_by_the_pixels_of_a_sample() -> None:
    found = records(rain(1)[:, None], rain(2))
    assert value("paper_rbias", found) / value("paper_mre", found) == pytest.approx(32 * 32)


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_perfect_forecast_gets_the_perfect_value(seed: int) -> None:
    observed = rain(seed)
    found = records(torch.stack([observed] * 3, 1), observed)
    undefined_without_error = {"spread_skill", "rank_distance", "resolution", "sedi"}
    for name in set(METRICS) - undefined_without_error:
        # Neighborhood methods produce false alarms even for a perfect forecast.
        for text in (t for t in every(name, found.protocol) if name == "fss" or "window" not in t):
            result = value(text, found)
            assert np.isnan(result) or result == pytest.approx(METRICS[name].perfect, abs=1e-5), text


def every(name: str, protocol: Protocol) -> list[str]:
    """Return the metric at all coordinates of each of its families."""
    from polarcast.hpc.scores.sums import FAMILIES

    found = []
    for family in METRICS[name].families:
        axes = [a for a in FAMILIES[family].axes if a not in (*METRICS[name].uses, "class", "field")]
        found += [str(s) for s in expand(Score(name, dict.fromkeys(axes, "*")), protocol)]
    return found


def test_coordinates_select_the_family() -> None:
    assert parse_score("csi@threshold=10").family_name == "contingency"
    assert parse_score("csi@threshold=10,pool=4").family_name == "pooled"
    assert parse_score("hk@threshold=10,window=9").family_name == "multi_event"
    assert parse_score("rmse@class=30").family_name == parse_score("rmse@lead_time=0").family_name == "continuous"


def test_star_expands_to_every_coordinate() -> None:
    found = [str(s) for s in expand(parse_score("hk@threshold=10,window=*"), PROTOCOL)]
    assert found == [f"hk@threshold=10,window={w}" for w in (1, 3, 5, 9, 17)]


@pytest.mark.parametrize(
    "text",
    ["rmsee", "csi", "csi@treshold=10", "hk@window=3", "rmse@threshold=5", "fss@threshold=5", "csi@threshold=many"],
)
def test_invalid_score_raises(text: str) -> None:
    with pytest.raises(BadInput):
        parse_score(text)


def test_unscored_coordinate_raises_with_the_available_ones() -> None:
    with pytest.raises(BadInput, match=r"choose from: 0.5, 1, 5"):
        parse_score("csi@threshold=7").sums(records(rain(1)[:, None], rain(2)))


@pytest.mark.parametrize("text", ["paper_rbias", "paper_mre", "paper_csi", "ne", "nb", "csi@threshold=5", "sal_l"])
def test_ratios_without_observed_rain_are_nan(text: str) -> None:
    assert np.isnan(tiny(text, [[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]))


def test_crps_of_one_member_is_labeled_mae() -> None:
    one, three = records(rain(1)[:, None], rain(2)), records(torch.stack([rain(1), rain(3), rain(4)], 1), rain(2))
    assert value("crps", one) == pytest.approx(value("mae", one))
    assert parse_score("crps").heading(one.protocol) == "MAE [mm/h]"
    assert parse_score("crps").heading(three.protocol) == "CRPS [mm/h]"
    assert value("crps", three) != pytest.approx(value("mae", three))


def test_value_is_the_maximum_over_all_cost_loss_ratios() -> None:
    from polarcast.hpc.scores.ensemble import economic_value

    found = records(torch.stack([rain(1), rain(2), rain(3)], 1), rain(1).roll(1, -1))
    counts = found.sums["probability"].sum((0, 1, 2))[1]
    fine = economic_value(counts, np.linspace(0.0005, 0.9995, 2000))
    assert value("value@threshold=1", found) == pytest.approx(fine.max(), abs=2e-3)
    assert value("value@threshold=1", found) >= fine.max() - 1e-12


def test_lost_variance_is_higher_for_the_mean_than_for_a_member() -> None:
    found = records(torch.stack([rain(s) for s in range(5)], 1), rain(9))
    assert value("lost_variance@field=mean", found) > 0.5
    assert abs(value("lost_variance", found)) < 0.4

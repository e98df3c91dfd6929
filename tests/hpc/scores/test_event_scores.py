"""Scores by name from a run's records, and the comparison of two runs."""

import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.hpc.scores import functional
from polarcast.hpc.scores.event_scores import EventScores, compare
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import score_fields

EVENTS = np.repeat(np.arange(12), 3)


def fields(noise: float, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Forecast and observed rain of 12 events of 3 frames."""
    random = torch.Generator().manual_seed(seed)
    observed = torch.empty(len(EVENTS), 16, 16).exponential_(0.15, generator=torch.Generator().manual_seed(0))
    return (observed + noise * torch.randn(observed.shape, generator=random)).clamp(min=0), observed


def scores_of(forecast: torch.Tensor, observed: torch.Tensor, events: np.ndarray = EVENTS) -> EventScores:
    protocol = Protocol("mm/h", (16, 16))
    sums = {
        name: s.double().numpy()[:, None, None]
        for name, s in score_fields(forecast[:, None], observed, protocol).items()
    }
    return EventScores(Records.of_windows(protocol, events, sums))


def test_a_score_is_pooled_over_all_events() -> None:
    forecast, observed = fields(3)
    scores = scores_of(forecast, observed)
    assert scores["rmse"] == pytest.approx(functional.rmse(forecast, observed), rel=1e-6)
    assert scores["csi@threshold=10"] == pytest.approx(functional.csi(forecast, observed, 10))
    assert scores["fss@threshold=10,window=5"] == pytest.approx(functional.fss(forecast, observed, 10, 5), rel=1e-6)


def test_a_score_by_event_is_that_of_its_fields() -> None:
    forecast, observed = fields(3)
    scores = scores_of(forecast, observed)
    by_event = functional.rmse(forecast.view(12, 3, 16, 16), observed.view(12, 3, 16, 16), keep_dims=[0])
    np.testing.assert_allclose(scores.by_event("rmse"), by_event, rtol=1e-6)
    assert scores.events.tolist() == list(range(12))
    found = scores.interval("rmse")
    assert found.value == pytest.approx(scores["rmse"])
    assert found.low < found.value < found.high


def test_errors_are_compared_as_ratios_with_an_interval() -> None:
    worse, better = scores_of(*fields(6)), scores_of(*fields(2))
    found = compare(worse, better, "rmse")
    assert found.scale == "ratio"
    assert found.value == pytest.approx(better["rmse"] / worse["rmse"] - 1)
    assert -1 < found.detectable < 0
    assert found.low < found.value < found.high < 0
    assert found.p < 0.05
    assert (found.events, found.improved) == (12, 1.0)
    assert not found.lacks_seeds
    trained = EventScores(better.records, trained=True)
    assert compare(worse, trained, "rmse").lacks_seeds
    assert tuple(compare(worse, trained, "rmse")) == tuple(found)
    value, low, high, p = found
    assert (value, low, high, p) == (found.value, found.low, found.high, found.p)
    back = compare(better, worse, "rmse")
    ratios = [1 / (1 + x) - 1 for x in (found.value, found.high, found.low)]
    assert [back.value, back.low, back.high] == pytest.approx(ratios)
    skill = compare(worse, better, "csi@threshold=10")
    assert skill.scale == "difference"
    assert skill.value == pytest.approx(better["csi@threshold=10"] - worse["csi@threshold=10"])
    bias = compare(worse, better, "nb")
    assert bias.scale == "distance"
    assert bias.value == pytest.approx(better["nb"] - worse["nb"])
    same = compare(worse, worse, "rmse")
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_what_can_not_be_compared_is_named() -> None:
    forecast, observed = fields(3)
    scores = scores_of(forecast, observed)
    with pytest.raises(BadInput, match="different events"):
        compare(scores, scores_of(forecast, observed, EVENTS + 1), "rmse")
    with pytest.raises(BadInput, match="unknown metric 'rmsee'"):
        scores["rmsee"]
    with pytest.raises(BadInput, match="names several scores"):
        scores["csi@threshold=*"]
    with pytest.raises(BadInput, match="threshold"):
        scores["csi@threshold=7"]


def test_it_is_shown_in_one_line_and_is_no_list() -> None:
    scores = scores_of(*fields(3))
    assert repr(scores) == "EventScores(12 events, mm/h, 1 members)"
    with pytest.raises(TypeError):
        list(scores)  # type: ignore[call-overload]
    for call in (lambda: scores.interval("rmse", "median"), lambda: compare(scores, scores, "rmse", aggregation="x")):
        with pytest.raises(BadInput, match="choose from: pooled, mean"):
            call()


def test_an_interval_stays_within_the_range_of_its_score() -> None:
    forecast, observed = fields(3)
    few = EVENTS < 4
    found = scores_of(forecast[few], observed[few], EVENTS[few]).interval("csi@threshold=10")
    assert 0 <= found.low <= found.value <= found.high <= 1

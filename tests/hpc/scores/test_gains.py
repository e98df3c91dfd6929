"""What a window adds to HK, POD and POFD, held against counts of scipy's maximum filter, and by its properties."""

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter

from polarcast.data.errors import BadInput
from polarcast.hpc.leaderboard.ranking import make_boards
from polarcast.hpc.scores import functional
from polarcast.hpc.scores.protocol import Protocol, nowcast_protocol
from polarcast.hpc.scores.query import expand, parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.bootstrap import interval
from polarcast.hpc.scores.stats.paired import Sums, compared, of_one
from polarcast.hpc.scores.sums import score_fields
from tests.support.fields import PAIRS, rain

GAINS = ("hk_gain", "pod_gain", "pofd_gain")
EVENTS, LEADS = 8, 2
Array = np.ndarray


def records(forecast: torch.Tensor, observed: torch.Tensor, unit: str = "mm/h", leads: int = 1) -> Records:
    """Records of events with `leads` lead times, from fields (e · leads, y, x)."""
    lead_time = tuple(6.0 * (1 + i) for i in range(leads)) if leads > 1 else (0.0,)
    shape: tuple[int, int] = tuple(observed.shape[1:])  # type: ignore[assignment]
    protocol = Protocol(unit, shape) if unit == "mm/h" else nowcast_protocol(shape, 1, lead_time, (3.0,))
    sums = score_fields(forecast[:, None], observed, protocol)
    events = len(observed) // leads
    by_window = {n: s.double().numpy().reshape(events, leads, 1, *s.shape[1:]) for n, s in sums.items()}
    return Records.of_windows(protocol, np.arange(events), by_window)


def table(forecast: Array, observed: Array, window: int, threshold: float = 10.0) -> Array:
    """Counts of hits, misses, false alarms and correct negatives of each field, (n, 4), without the project's code."""
    valid = np.isfinite(forecast) & np.isfinite(observed)
    event = np.where(valid, forecast, -np.inf) >= threshold
    near = maximum_filter(event.astype(np.uint8), size=(1, window, window), mode="constant") > 0
    seen = np.where(valid, observed, -np.inf) >= threshold
    cells = [near & seen, ~near & seen, near & ~seen, ~near & ~seen]
    return np.stack([(cell & valid).sum((1, 2)) for cell in cells], -1).astype(float)


def rates(counts: Array) -> dict[str, Array]:
    h, m, f, c = np.moveaxis(counts, -1, 0)
    return {"pod_gain": h / (h + m), "pofd_gain": f / (f + c), "hk_gain": h / (h + m) - f / (f + c)}


def value(text: str, of: Records) -> float:
    score = parse_score(text)
    return float(score.of(score.sums(of).sum(0), of.protocol))


@pytest.mark.parametrize("pair", ["rain", "a little off", "missing values", "the same"])
@pytest.mark.parametrize("window", [3, 9, 17])
def test_a_gain_is_that_of_counts_of_a_maximum_filter(pair: str, window: int) -> None:
    forecast, observed = PAIRS[pair]
    counts = [table(forecast.numpy(), observed.numpy(), side).sum(0) for side in (window, 1)]
    wide, narrow = map(rates, counts)
    for name in GAINS:
        expected = wide[name] - narrow[name]
        assert value(f"{name}@threshold=10,window={window}", records(forecast, observed)) == pytest.approx(expected)
        assert getattr(functional, name)(forecast, observed, 10, window) == pytest.approx(expected)


def test_it_is_the_score_in_the_window_minus_the_score_at_the_pixel() -> None:
    of = records(rain(1), rain(2))
    for name in GAINS:
        base = name.removesuffix("_gain")
        for window in (1, 3, 17):
            expected = value(f"{base}@threshold=5,window={window}", of) - value(f"{base}@threshold=5", of)
            assert value(f"{name}@threshold=5,window={window}", of) == pytest.approx(expected, abs=1e-12)
        assert value(f"{name}@threshold=5,window=1", of) == 0


def test_hits_and_false_alarms_grow_with_the_window_and_hk_gains_where_hits_grow_faster() -> None:
    of = records(rain(1).roll(2, -1), rain(1))
    pod, pofd, hk = (
        [value(f"{n}@threshold=10,window={w}", of) for w in (1, 3, 5, 9, 17)]
        for n in ("pod_gain", "pofd_gain", "hk_gain")
    )
    assert pod == sorted(pod)
    assert pofd == sorted(pofd)
    np.testing.assert_allclose(hk, np.subtract(pod, pofd), atol=1e-12)


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_a_displaced_forecast_gains_and_one_in_place_does_not(shift: int) -> None:
    observed = torch.zeros(3, 32, 32)
    observed[:, 10:14, 10:14] = 20.0
    displaced = observed.roll(shift, -1)
    at = f"threshold=10,window={2 * shift + 1}"
    moved, in_place = records(displaced, observed), records(observed, observed)
    assert value(f"hk_gain@{at}", moved) > 0.1
    assert value(f"pod@{at}", moved) == 1
    assert value(f"pod_gain@{at}", in_place) == 0
    assert value(f"hk_gain@{at}", in_place) == pytest.approx(-value(f"pofd@{at}", in_place))
    assert value(f"hk_gain@{at}", in_place) < 0
    assert value(f"hk_gain@{at}", records(torch.zeros_like(observed), observed)) == 0


def test_every_window_is_that_but_the_smallest() -> None:
    protocol = Protocol("mm/h", (32, 32))
    found = [str(s) for s in expand(parse_score("hk_gain@threshold=10,window=*"), protocol)]
    assert found == [f"hk_gain@threshold=10,window={w}" for w in (3, 5, 9, 17)]
    assert len(expand(parse_score("hk@threshold=10,window=*"), protocol)) == 5


def test_an_undefined_gain_has_the_reason_of_its_score() -> None:
    of, score = records(rain(1), torch.zeros(4, 32, 32)), parse_score("hk_gain@threshold=10,window=9")
    assert np.isnan(value(str(score), of))
    assert score.reason(score.sums(of).sum(0), of.protocol) == "no observed event ≥ 10 mm/h"
    assert score.support(of).tolist() == [0] * 4
    seen = rain(2)
    assert score.support(records(rain(1), seen)).tolist() == (seen >= 10).sum((1, 2)).tolist()


def test_the_comparison_of_arms_is_the_difference_of_differences() -> None:
    """Value and interval are those of a statistic written here, of counts made here."""
    observed = torch.cat([rain(seed) for seed in range(6)])
    blurred = torch.nn.functional.avg_pool2d(observed[:, None], 9, 1, 4)[:, 0].roll(2, -1)
    sharp = observed.roll(1, -1)
    score = parse_score("hk_gain@threshold=10,window=9")
    radar, dualpol = (Sums.of(score, [records(f, observed)]) for f in (blurred, sharp))
    pair = compared(radar, dualpol, POOLED)

    counts = [np.concatenate([table(f.numpy(), observed.numpy(), w) for w in (9, 1)], -1) for f in (blurred, sharp)]

    def gain(sums: Array) -> Array:
        return np.asarray(rates(sums[..., :4])["hk_gain"] - rates(sums[..., 4:])["hk_gain"])

    expected = interval([c[None] for c in counts], lambda s: gain(s[..., 8:]) - gain(s[..., :8]))
    assert pair.scale == "difference"
    assert pair.interval.value == pytest.approx(expected.value)
    assert (pair.interval.low, pair.interval.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    alone = [of_one(side, POOLED).interval.value for side in (radar, dualpol)]
    assert pair.interval.value == pytest.approx(alone[1] - alone[0])
    assert np.isnan(pair.improved)  # no value of a gain is better


def test_gains_of_nowcasts_have_lead_times() -> None:
    observed, forecast = (torch.cat([rain(seed) for seed in seeds]) * 2 for seeds in ((0, 1, 2, 3), (0, 1, 5, 6)))
    of = records(forecast.roll(1, -2), observed, "dBZ", LEADS)
    moved, seen = forecast.roll(1, -2).numpy(), observed.numpy()
    for lead in range(LEADS):
        wide, narrow = (rates(table(moved, seen, w, 35.0)[lead::LEADS].sum(0)) for w in (5, 1))
        text = f"hk_gain@threshold=35,window=5,lead_time={6 * (1 + lead)}"
        assert value(text, of) == pytest.approx(wide["hk_gain"] - narrow["hk_gain"])
    assert parse_score(text).heading(of.protocol) == "HK gain ≥ 35 dBZ within 5 px 12 min"


def test_runs_are_not_ranked_by_a_score_without_better_values() -> None:
    with pytest.raises(BadInput, match="neither smaller nor larger is better"):
        make_boards([], parse_score("hk_gain@threshold=10,window=9"))

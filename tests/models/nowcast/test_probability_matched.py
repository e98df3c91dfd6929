"""A nowcast with the last frame's histogram, beside pysteps' own, and what it must not change."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pysteps.postprocessing.probmatching import nonparam_match_empirical_cdf
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import Forecaster, InputSpec, parameter_count
from polarcast.models.nowcast.furenet import FURENet, FURENetConfig
from polarcast.models.nowcast.probability_matched import (
    ProbabilityMatched,
    ProbabilityMatchedConfig,
    matched,
    matched_mean,
)
from tests.support.moving_storm import LEAD, SEEN, storm, window

INPUTS = InputSpec(("zh",), (1, 2), SEEN, LEAD)
FIELDS = arrays(np.float32, (6, 7), elements=st.floats(0, 60, width=32))


class Halved(Forecaster):
    """Half of the last frame in its first member, a quarter in its second."""

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        last = batch.variable("zh")[:, None, -1:].expand(-1, members, LEAD, -1, -1, -1)
        return last / (2 ** torch.arange(1, members + 1).view(1, -1, 1, 1, 1, 1))


def test_what_was_only_too_weak_is_made_right_at_every_height_and_lead_time_and_in_every_member() -> None:
    batch = window(storm(velocity=(2, 1)), storm(velocity=(-1, 0)))
    ahead = ProbabilityMatched(ProbabilityMatchedConfig(), INPUTS, Halved()).forecast(batch, members=2)
    assert ahead.shape == (1, 2, LEAD, 2, 64, 64)
    torch.testing.assert_close(ahead, batch.variable("zh")[:, None, -1:].expand_as(ahead))


@given(FIELDS, FIELDS)
def test_order_is_the_forecasts_and_values_are_those_of_the_pattern(forecast: np.ndarray, pattern: np.ndarray) -> None:
    out = matched(torch.from_numpy(forecast), torch.from_numpy(pattern)).numpy()
    echo = forecast > 0
    assert not out[~echo].any()
    # The strongest of the pattern, as many as there is echo in the forecast.
    np.testing.assert_array_equal(np.sort(out[echo]), np.sort(pattern, axis=None)[forecast.size - echo.sum() :])
    order = np.argsort(forecast, axis=None, kind="stable")
    assert (np.diff(out.flat[order]) >= 0).all()


@given(FIELDS)
def test_a_field_matched_with_itself_stays(field: np.ndarray) -> None:
    torch.testing.assert_close(matched(torch.from_numpy(field), torch.from_numpy(field)), torch.from_numpy(field))


def test_an_ensemble_is_asked_of_the_base_and_its_matched_mean_is_the_forecast() -> None:
    batch = window(storm(velocity=(2, 1)), storm(velocity=(-1, 0)))
    made = ProbabilityMatched(ProbabilityMatchedConfig(mean_of=2), INPUTS, Halved()).forecast(batch, members=5)
    assert made.shape == (1, 1, LEAD, 2, 64, 64)
    torch.testing.assert_close(made, matched_mean(Halved().forecast(batch, 2)))


@given(arrays(np.float32, (2, 6, 7), elements=st.floats(0, 60, width=32)))
def test_a_matched_mean_has_the_order_of_the_mean_and_every_second_value_of_two_members(members: np.ndarray) -> None:
    mean = members.mean(0)
    expected = np.zeros(mean.size, np.float32)
    expected[np.argsort(mean, axis=None, kind="stable")] = np.sort(members, axis=None)[1::2]
    made = matched_mean(torch.from_numpy(members)[None]).numpy()[0, 0]
    np.testing.assert_array_equal(made, np.where(mean > 0, expected.reshape(mean.shape), 0))


@given(arrays(np.float32, (1, 3, 2, 6, 7), elements=st.floats(0, 60, width=32)))
def test_a_matched_mean_never_has_more_than_its_members_and_echo_only_where_one_has(ensemble: np.ndarray) -> None:
    made = matched_mean(torch.from_numpy(ensemble)).numpy()
    assert (made.max((-2, -1)) <= ensemble.max((1, 3, 4))[:, None]).all()
    assert not made[0, 0][(ensemble == 0).all((0, 1))].any()


@given(FIELDS)
def test_members_that_agree_are_their_own_matched_mean(field: np.ndarray) -> None:
    ensemble = torch.from_numpy(field).expand(1, 3, -1, -1)
    torch.testing.assert_close(matched_mean(ensemble), ensemble[:, :1])


def test_a_mean_of_no_members_is_refused() -> None:
    with pytest.raises(BadInput, match="mean_of = 0"):
        ProbabilityMatched(ProbabilityMatchedConfig(mean_of=0), INPUTS, Halved())


def test_a_mean_of_a_base_without_members_is_refused() -> None:
    base = FURENet(FURENetConfig(widths=[8, 16], squeeze=4), INPUTS)
    made = ProbabilityMatched(ProbabilityMatchedConfig(mean_of=4), INPUTS, base)
    with pytest.raises(BadInput, match="no members"):
        made.forecast(window(storm(), storm()))


def test_pysteps_matches_alike_where_no_echo_is_tied() -> None:
    rng = np.random.default_rng(0)
    forecast, pattern = rng.gamma(2, 8, (2, 40, 40))
    # pysteps takes the smallest value there is for no echo.
    forecast[:2], pattern[:2] = 0, 0
    theirs = nonparam_match_empirical_cdf(forecast, pattern)
    np.testing.assert_allclose(
        matched(torch.from_numpy(forecast), torch.from_numpy(pattern)).numpy(), theirs, atol=1e-9
    )


def test_missing_values_of_the_last_frame_are_no_echo() -> None:
    pattern = torch.tensor([[float("nan"), 10.0], [20.0, -3.0]])
    out = matched(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), pattern)
    torch.testing.assert_close(out, torch.tensor([[0.0, 0.0], [10.0, 20.0]]))


def test_nothing_of_it_is_trained() -> None:
    base = FURENet(FURENetConfig(widths=[8, 16], squeeze=4), INPUTS)
    made = ProbabilityMatched(ProbabilityMatchedConfig(), INPUTS, base)
    assert parameter_count(made) == 0
    assert made.forecast(window(storm(), storm())).isfinite().all()


def test_without_zh_there_are_no_values_to_match() -> None:
    with pytest.raises(BadInput, match="no values to match without zh"):
        ProbabilityMatched(ProbabilityMatchedConfig(), InputSpec(("zdr",), (1,), SEEN, LEAD), Halved())

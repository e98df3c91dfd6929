"""Probability matching: properties, agreement with pysteps and invalid settings."""

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
    """Forecaster whose first member is half of the last frame, and whose second is a quarter."""

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        last = batch.variable("zh")[:, None, -1:].expand(-1, members, LEAD, -1, -1, -1)
        return last / (2 ** torch.arange(1, members + 1).view(1, -1, 1, 1, 1, 1))


def test_matching_corrects_weak_forecasts_at_every_height_lead_time_and_member() -> None:
    batch = window(storm(velocity=(2, 1)), storm(velocity=(-1, 0)))
    ahead = ProbabilityMatched(ProbabilityMatchedConfig(), INPUTS, Halved()).forecast(batch, members=2)
    assert ahead.shape == (1, 2, LEAD, 2, 64, 64)
    torch.testing.assert_close(ahead, batch.variable("zh")[:, None, -1:].expand_as(ahead))


@given(FIELDS, FIELDS)
def test_order_comes_from_the_forecast_and_values_from_the_pattern(forecast: np.ndarray, pattern: np.ndarray) -> None:
    out = matched(torch.from_numpy(forecast), torch.from_numpy(pattern)).numpy()
    echo = forecast > 0
    assert not out[~echo].any()
    # The strongest values of the pattern, as many as the forecast has echo pixels.
    np.testing.assert_array_equal(np.sort(out[echo]), np.sort(pattern, axis=None)[forecast.size - echo.sum() :])
    order = np.argsort(forecast, axis=None, kind="stable")
    assert (np.diff(out.flat[order]) >= 0).all()


@given(FIELDS)
def test_field_matched_to_itself_is_unchanged(field: np.ndarray) -> None:
    torch.testing.assert_close(matched(torch.from_numpy(field), torch.from_numpy(field)), torch.from_numpy(field))


def test_forecast_is_the_matched_mean_of_the_base_ensemble() -> None:
    batch = window(storm(velocity=(2, 1)), storm(velocity=(-1, 0)))
    result = ProbabilityMatched(ProbabilityMatchedConfig(mean_of=2), INPUTS, Halved()).forecast(batch, members=5)
    assert result.shape == (1, 1, LEAD, 2, 64, 64)
    torch.testing.assert_close(result, matched_mean(Halved().forecast(batch, 2)))


@given(arrays(np.float32, (2, 6, 7), elements=st.floats(0, 60, width=32)))
def test_matched_mean_of_two_members_takes_every_second_value_in_order_of_the_mean(members: np.ndarray) -> None:
    mean = members.mean(0)
    expected = np.zeros(mean.size, np.float32)
    expected[np.argsort(mean, axis=None, kind="stable")] = np.sort(members, axis=None)[1::2]
    result = matched_mean(torch.from_numpy(members)[None]).numpy()[0, 0]
    np.testing.assert_array_equal(result, np.where(mean > 0, expected.reshape(mean.shape), 0))


@given(arrays(np.float32, (1, 3, 2, 6, 7), elements=st.floats(0, 60, width=32)))
def test_matched_mean_is_limited_to_the_values_and_echo_of_its_members(ensemble: np.ndarray) -> None:
    result = matched_mean(torch.from_numpy(ensemble)).numpy()
    assert (result.max((-2, -1)) <= ensemble.max((1, 3, 4))[:, None]).all()
    assert not result[0, 0][(ensemble == 0).all((0, 1))].any()


@given(FIELDS)
def test_matched_mean_of_equal_members_is_the_member(field: np.ndarray) -> None:
    ensemble = torch.from_numpy(field).expand(1, 3, -1, -1)
    torch.testing.assert_close(matched_mean(ensemble), ensemble[:, :1])


def test_mean_of_a_base_without_members_raises() -> None:
    base = FURENet(FURENetConfig(widths=[8, 16], squeeze=4), INPUTS)
    model = ProbabilityMatched(ProbabilityMatchedConfig(mean_of=4), INPUTS, base)
    with pytest.raises(BadInput, match="no members"):
        model.forecast(window(storm(), storm()))


def test_matching_equals_that_of_pysteps_without_ties() -> None:
    rng = np.random.default_rng(0)
    forecast, pattern = rng.gamma(2, 8, (2, 40, 40))
    # pysteps takes the smallest value for no echo.
    forecast[:2], pattern[:2] = 0, 0
    theirs = nonparam_match_empirical_cdf(forecast, pattern)
    np.testing.assert_allclose(
        matched(torch.from_numpy(forecast), torch.from_numpy(pattern)).numpy(), theirs, atol=1e-9
    )


def test_missing_values_of_the_last_frame_count_as_no_echo() -> None:
    pattern = torch.tensor([[float("nan"), 10.0], [20.0, -3.0]])
    out = matched(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), pattern)
    torch.testing.assert_close(out, torch.tensor([[0.0, 0.0], [10.0, 20.0]]))


def test_model_has_no_trainable_parameters() -> None:
    base = FURENet(FURENetConfig(widths=[8, 16], squeeze=4), INPUTS)
    model = ProbabilityMatched(ProbabilityMatchedConfig(), INPUTS, base)
    assert parameter_count(model) == 0
    assert model.forecast(window(storm(), storm())).isfinite().all()


def test_inputs_without_zh_raise() -> None:
    with pytest.raises(BadInput, match="probability matching needs zh"):
        ProbabilityMatched(ProbabilityMatchedConfig(), InputSpec(("zdr",), (1,), SEEN, LEAD), Halved())

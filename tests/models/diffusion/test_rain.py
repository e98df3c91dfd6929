import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.models.common.standardize import Standard, moments
from polarcast.models.diffusion.rain import RainSpace, collapse_alarm, fair_crps, rain_weight
from tests.support.scoring_rules import scoring_rules


def test_moments_over_batches_equal_those_of_numpy() -> None:
    parts = [5 + torch.randn(b, 2, 4, 6) * torch.tensor([1.0, 3.0])[:, None, None] for b in (1, 3, 2)]
    whole = torch.cat(parts).double().numpy()
    mean, std = moments(parts)
    np.testing.assert_allclose(mean, whole.mean((0, 2, 3)))
    np.testing.assert_allclose(std, whole.std((0, 2, 3)))


def test_standardized_fields_have_zero_mean_and_unit_variance_and_are_restored() -> None:
    standard, fields = Standard(3), 4 + 2 * torch.randn(5, 3, 8, 8)
    standard.fit([fields])
    torch.testing.assert_close(standard(fields).mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard(fields).std((0, 2, 3), correction=0), torch.ones(3))
    torch.testing.assert_close(standard.restore(standard(fields)), fields)


def test_constant_field_is_standardized_to_zero() -> None:
    standard = Standard()
    standard.fit([torch.full((2, 1, 4, 4), 3.0)])
    assert (standard(torch.full((1, 1, 2, 2), 3.0)) == 0).all()


def test_moments_of_no_batches_raise() -> None:
    with pytest.raises(ValueError, match="no batches"):
        moments([])


@pytest.mark.parametrize("transform", ["log1p", "sqrt", "identity"])
def test_rain_transforms_are_invertible_within_limits(transform: str) -> None:
    space, rain = RainSpace(transform), torch.tensor([0.0, 0.3, 12.0, 180.0])
    torch.testing.assert_close(space.rain_rate(space(rain)), rain)
    assert space.rain_rate(torch.tensor([-1.0, 1e6])).tolist() == pytest.approx([0, 300], rel=1e-4)


def test_unknown_transform_raises() -> None:
    with pytest.raises(BadInput, match="log1p, sqrt, identity"):
        RainSpace("cube")


@pytest.mark.parametrize("members", [2, 5])
def test_fair_crps_equals_that_of_scoringrules(members: int) -> None:
    ensemble, observed = torch.rand(3, members, 1, 4, 4), torch.rand(3, 1, 4, 4)
    theirs = scoring_rules().crps_ensemble(observed.numpy(), ensemble.numpy(), m_axis=1, estimator="fair")
    assert float(fair_crps(ensemble, observed)) == pytest.approx(float(np.mean(theirs)), rel=1e-5)


def test_rain_weight_increases_up_to_a_limit() -> None:
    assert rain_weight(torch.tensor([0.0, 10.0, 100.0, 250.0]), 0.5).tolist() == [1, 1.5, 6, 6]


def test_collapse_alarm_detects_each_kind_of_collapse() -> None:
    rain = torch.rand(2, 1, 4, 4) * 20
    members = torch.rand(2, 2, 1, 4, 4) * 20
    assert collapse_alarm(members, rain) is None
    assert "zero" in str(collapse_alarm(0 * members, rain))
    assert collapse_alarm(0 * members, 0 * rain) is None
    assert "300 mm/h" in str(collapse_alarm(members + 300, rain))
    assert "equal" in str(collapse_alarm(members[:, :1].expand(-1, 2, -1, -1, -1), rain))
    assert "finite" in str(collapse_alarm(members / 0, rain))

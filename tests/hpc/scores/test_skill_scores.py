"""KGE, skill, quantile score, pooled CRPS and SSIM equal those of other libraries."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.hpc.scores import functional
from polarcast.hpc.scores.ensemble import brier, brier_skill, probability_counts
from polarcast.hpc.scores.protocol import POOLINGS, Protocol, nowcast_protocol
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import score_fields
from tests.support.scoring_rules import scoring_rules

Array = np.ndarray


def rain(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).gamma(0.5, 8.0, shape)


def blocks(field: Array, side: int, pooling: str) -> Array:
    """Pool (…, y, x) block by block, as its definition says."""
    pool = np.mean if pooling == "average" else np.max
    *leading, height, width = field.shape
    rows = [
        [pool(field[..., y : y + side, x : x + side], axis=(-2, -1)) for x in range(0, width, side)]
        for y in range(0, height, side)
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1)).reshape(*leading, -(-height // side), -(-width // side))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), offset=st.sampled_from([0.0, 3.0, 100.0]))
def test_kge_and_msess_are_those_of_scores(seed: int, offset: float) -> None:
    from scores.continuous import kge, nse

    forecast, observed = rain(seed, 2, 9, 12) + offset, rain(seed + 1, 2, 9, 12) + offset
    arrays = [xr.DataArray(f.ravel(), dims="pixel") for f in (forecast, observed)]
    assert functional.kge(forecast, observed) == pytest.approx(float(kge(*arrays)), rel=1e-6)
    assert functional.msess(forecast, observed) == pytest.approx(float(nse(*arrays)), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), members=st.integers(2, 9), level=st.sampled_from([0.05, 0.3, 0.5, 0.9, 0.99]))
def test_quantile_score_is_that_of_scores(seed: int, members: int, level: float) -> None:
    from scores.continuous import quantile_score

    ensemble, observed = rain(seed, 2, members, 7, 5), rain(seed + 1, 2, 7, 5)
    quantile = np.quantile(ensemble, level, axis=1)
    expected = float(quantile_score(xr.DataArray(quantile), xr.DataArray(observed), alpha=level))
    found = functional.quantile_score(ensemble, observed, level, member_dim=1)
    assert found == pytest.approx(expected, rel=1e-9)
    if level == 0.5:
        assert found == pytest.approx(abs(np.median(ensemble, 1) - observed).mean() / 2)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6), members=st.integers(1, 5), height=st.integers(8, 20), width=st.integers(8, 20),
    side=st.integers(2, 8), pooling=st.sampled_from(POOLINGS),
)  # fmt: skip
def test_pooled_crps_is_that_of_scoringrules_on_blocks(
    seed: int, members: int, height: int, width: int, side: int, pooling: str
) -> None:
    ensemble, observed = rain(seed, 2, members, height, width), rain(seed + 1, 2, height, width)
    pooled = blocks(observed, side, pooling), blocks(ensemble, side, pooling)
    crps = abs(pooled[0] - pooled[1][:, 0])  # of one member
    if members > 1:
        crps = scoring_rules().crps_ensemble(*pooled, m_axis=1, estimator="fair")
    found = functional.crps(ensemble, observed, member_dim=1, pool=side, pooling=pooling)
    assert found == pytest.approx(crps.mean(), rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6), height=st.integers(11, 40), width=st.integers(11, 40),
    data_range=st.sampled_from([1.0, 70.0, 255.0]),
)  # fmt: skip
def test_ssim_is_that_of_scikit_image(seed: int, height: int, width: int, data_range: float) -> None:
    from skimage.metrics import structural_similarity

    forecast, observed = (
        rain(seed, 3, height, width),
        rain(seed, 3, height, width) + rain(seed + 1, 3, height, width) / 4,
    )
    expected = [
        structural_similarity(
            f, o, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for f, o in zip(forecast, observed, strict=True)
    ]  # fmt: skip
    found = functional.ssim(forecast, observed, data_range, keep_dims=0)
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert functional.ssim(observed, observed, data_range) == pytest.approx(1)


def test_brier_skill_has_the_observed_frequency_as_its_reference() -> None:
    ensemble, observed = rain(3, 2, 4, 9, 9), rain(4, 2, 9, 9)
    climate = np.full((2, 1, 9, 9), (observed >= 10).mean())
    reference = ((climate[:, 0] - (observed >= 10)) ** 2).mean()
    expected = functional.skill(functional.brier(ensemble, observed, 10, member_dim=1), reference)
    assert functional.brier_skill(ensemble, observed, 10, member_dim=1) == pytest.approx(expected)
    counts = probability_counts(torch.tensor(ensemble), torch.tensor(observed), [10.0]).numpy()
    parts = brier(counts)
    np.testing.assert_allclose(brier_skill(counts), (parts["resolution"] - parts["reliability"]) / parts["uncertainty"])


def test_skill_is_the_share_of_the_way_from_reference_to_perfect() -> None:
    assert functional.skill(1.0, 4.0) == 0.75
    assert functional.skill(4.0, 4.0) == 0
    assert functional.skill(0.8, 0.6, perfect=1.0) == pytest.approx(0.5)
    assert math.isnan(functional.skill(1.0, 0.0))
    assert math.isnan(functional.skill(1.0, math.nan))
    found = functional.skill(np.array([1.0, 6.0]), np.array([4.0, 4.0]))
    np.testing.assert_allclose(found, [0.75, -0.5])


def test_msess_against_climatology_is_its_skill() -> None:
    forecast, observed = rain(1, 3, 8, 8), rain(2, 3, 8, 8)
    reference = functional.mse(np.full_like(observed, observed.mean()), observed)
    assert functional.msess(forecast, observed) == pytest.approx(
        functional.skill(functional.mse(forecast, observed), reference), rel=1e-6
    )


def test_scores_of_records_equal_the_functions() -> None:
    ensemble, observed = (torch.tensor(rain(seed, *shape)) for seed, shape in ((1, (5, 4, 32, 32)), (2, (5, 32, 32))))
    protocol = Protocol("mm/h", (32, 32), 4)
    sums = {name: of.double().numpy()[:, None, None] for name, of in score_fields(ensemble, observed, protocol).items()}
    records = Records.of_windows(protocol, np.arange(5), sums)

    def value(text: str) -> float:
        score = parse_score(text)
        return float(score.of(score.sums(records).sum(0), protocol))

    mean = ensemble.mean(1)
    assert value("kge") == pytest.approx(functional.kge(mean, observed))
    assert value("ssim") == pytest.approx(functional.ssim(ensemble[:, 0], observed, protocol.data_range))
    assert value("ssim@field=mean") == pytest.approx(functional.ssim(mean, observed, protocol.data_range))
    for pooling in POOLINGS:
        expected = functional.crps(ensemble, observed, member_dim=1, pool=16, pooling=pooling)
        assert value(f"crps@pool=16,pooling={pooling}") == pytest.approx(expected)
    expected = functional.quantile_score(ensemble, observed, 0.9, member_dim=1)
    assert value("quantile_score@quantile=0.9") == pytest.approx(expected)
    assert parse_score("crps@pool=16,pooling=maximum").heading(protocol) == "CRPS pool 16 px maximum [mm/h]"
    assert parse_score("quantile_score@quantile=0.9").heading(protocol) == "QS at 0.9 [mm/h]"


def test_the_data_range_follows_from_the_unit_also_in_older_records() -> None:
    protocol = nowcast_protocol((32, 32), 1, (6.0,), (1.0,))
    assert protocol.data_range == 70
    record = protocol.as_record()
    assert Protocol.of_record(record) == protocol
    older = {name: value for name, value in record.items() if name not in ("quantile", "data_range")}
    assert Protocol.of_record(older) == protocol
    assert Protocol("mm/h", (32, 32)).data_range == 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, o: functional.ssim(f[0], o, 0), "positive data_range"),
        (lambda f, o: functional.ssim(f[0, :, :8], o[:, :8], 70), "11 × 11 pixels"),
        (lambda f, o: functional.crps(f, o, member_dim=0, pool=40), "at most 12 pixels"),
        (lambda f, o: functional.crps(f, o, member_dim=0, pool=4, pooling="median"), "pooling"),
        (lambda f, o: functional.quantile_score(f, o, 1.0, member_dim=0), "between 0 and 1"),
        (lambda f, o: functional.quantile_score(f[:1], o, 0.5, member_dim=0), "needs 2 or more members"),
    ],
)
def test_what_does_not_fit_is_named(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((ValueError, BadInput), match=message):
        call(rain(1, 3, 2, 12, 12), rain(2, 2, 12, 12))


def test_a_summary_of_all_scores_has_the_pooled_ones() -> None:
    from polarcast.hpc.evaluation.summary import summarize

    ensemble, observed = (torch.tensor(rain(seed, *shape)) for seed, shape in ((1, (5, 2, 32, 32)), (2, (5, 32, 32))))
    protocol = Protocol("mm/h", (32, 32), 2)
    sums = {name: of.double().numpy()[:, None, None] for name, of in score_fields(ensemble, observed, protocol).items()}
    rows = [row for of in summarize(Records.of_windows(protocol, np.arange(5), sums), ["all"], None) for row in of.rows]
    assert {str(row.score) for row in rows} >= {
        "crps@pooling=average,pool=16", "crps@pooling=maximum,pool=16", "quantile_score@quantile=0.5", "ssim", "kge",
        "observed_share", "scored_share",
    }  # fmt: skip

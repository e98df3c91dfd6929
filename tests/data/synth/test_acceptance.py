"""Acceptance table on a fixed set of storms, and its measurements on inputs with known results."""

import numpy as np
import pytest

from polarcast.data.explore.measures import (
    AcceptanceRow,
    accept,
    fit_z_r,
    join_truth,
    local_mean,
    near,
    normalised_error,
    size_spread,
    summarise,
    wet_fraction,
)
from polarcast.data.synth.generate import PRESETS, generate_event, sample_truth

pytestmark = pytest.mark.acceptance

EVENTS, FRAMES, SIZE, SEED = 6, 20, 256, 0


@pytest.fixture(scope="module")
def table():
    world = PRESETS["meiyu"]
    events = (generate_event(world, SEED, e, SIZE, FRAMES) for e in range(EVENTS))
    summaries = [summarise(e.radar, e.rain) for e in events]
    truth = join_truth([sample_truth(world, SEED, e, SIZE, frames=2) for e in range(EVENTS)])
    return accept(summaries, truth)


def test_every_row_of_the_table_is_in_range(table):
    failed = [f"{r.test}: {r.value:.3f} not in {r.low} ... {r.high}" for r in table if not r.passed]
    assert len(table) == 25
    assert failed == []


def test_small_grids_and_archives_without_truth_get_fewer_rows():
    event = generate_event(PRESETS["tiny"], SEED, 0, 64, 4)
    rows = accept([summarise(event.radar, event.rain)])
    assert len(rows) == 16
    assert not any("lifetime" in r.test or "sd of ln Dm" in r.test for r in rows)


def test_row_fails_if_out_of_range_or_undefined():
    assert AcceptanceRow("a", 1.0, 0.0, 1.0).as_record() == {
        "test": "a",
        "value": 1.0,
        "low": 0.0,
        "high": 1.0,
        "pass": True,
    }
    assert not AcceptanceRow("a", 1.1, 0.0, 1.0).passed
    assert not AcceptanceRow("a", float("nan"), 0.0, 1.0).passed


def test_z_r_fit_recovers_the_true_coefficients():
    rain = np.geomspace(1, 100, 50)
    assert fit_z_r(10 * np.log10(250 * rain**1.35), rain) == pytest.approx((250, 1.35))


def test_wet_fraction_counts_the_coverage_circle_only():
    zh = np.zeros((2, 64, 64))
    assert wet_fraction(zh) == 0
    zh[:, :2, :2] = 40.0  # a corner outside the circle
    assert wet_fraction(zh) == 0
    zh[0] = 40.0
    assert wet_fraction(zh) == pytest.approx(0.5)


def test_near_excludes_fill_and_other_reflectivities():
    zh, zdr = np.array([[0.0, 20.5, 23.0]]), np.array([[1.0, 2.0, 3.0]])
    assert near(zh, zdr, 20).tolist() == [2.0]
    assert near(zh, zdr, 0.5).tolist() == []


def test_local_mean_reduces_noise_inside_echo_only():
    rng = np.random.default_rng(0)
    zh = np.full((1, 60, 60), 20.0)
    zh[:, :, 30:] = 0
    means = local_mean(rng.standard_normal((1, 60, 60)), zh)
    assert means.std() == pytest.approx(0.2, abs=0.03)
    assert 26 * 56 <= len(means) <= 28 * 60


def test_size_spread_excludes_classes_with_few_samples():
    rng = np.random.default_rng(0)
    rain = np.full(1000, 5.0)
    assert size_spread(rng.normal(0, 0.2, 1000), rain) == pytest.approx([0.2], abs=0.02)


def test_normalised_error_matches_hand_calculation():
    assert normalised_error(np.array([2.0, 4.0]), np.array([1.0, 5.0])) == pytest.approx(2 / 6)

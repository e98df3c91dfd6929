"""Latent chain, its fields over the ground, and convective cells."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.synth import cells
from polarcast.data.synth.storm import (
    Bands,
    G,
    H,
    V,
    X,
    coarsen,
    draw_state,
    make_chain,
    make_dynamics,
    make_modes,
    step_state,
)
from polarcast.data.synth.weather import Regime, draw_regime, simulate
from polarcast.data.synth.world import PRESETS

WORLD = PRESETS["meiyu"]
CALM = Regime(-3.8, 1.8, 0.6, 0.0, 0.0, 10.0, 0.0)


@given(first=st.floats(0.05, 0.99), second=st.floats(0.05, 0.99))
def test_chain_has_unit_variance_for_any_couplings(first, second):
    chain = make_chain(first, second)
    np.testing.assert_allclose(np.diag(chain.covariance), 1, rtol=1e-9)
    noise = -(chain.drift @ chain.covariance + chain.covariance @ chain.drift.T)
    np.testing.assert_allclose(noise - np.diag(np.diag(noise)), 0, atol=1e-9)
    assert (np.diag(noise) > 0).all()


def test_step_preserves_the_stationary_distribution():
    dynamics = make_dynamics(WORLD, make_modes(64, WORLD.cutoff_km))
    chain = make_chain(WORLD.growth_from_vigour, WORLD.rain_from_growth).covariance
    step, kick = dynamics.transition, dynamics.innovation
    after = step @ chain @ step.transpose(0, 2, 1) + kick @ kick.transpose(0, 2, 1)
    np.testing.assert_allclose(after, np.broadcast_to(chain, after.shape), atol=2e-3)


def test_latents_have_unit_variance_and_vigour_leads_rain():
    dynamics = make_dynamics(WORLD, make_modes(128, WORLD.cutoff_km))
    rng = np.random.default_rng(0)
    runs = []
    for _ in range(40):
        early = draw_state(dynamics, rng)
        late = early
        for _ in range(5):
            late = step_state(dynamics, late, rng)
        runs.append([dynamics.modes.to_field(z) for z in (early[V], early[X], late[V], late[X], early[H])])
    v0, x0, v1, x1, h = np.array(runs).swapaxes(0, 1)
    for field in (v0, x0, x1, h):
        assert field.std() == pytest.approx(1, abs=0.08)
    assert (v0 * x1).mean() > (v1 * x0).mean() + 0.1


def test_fields_move_by_exactly_the_given_shift():
    dynamics = make_dynamics(WORLD, make_modes(64, WORLD.cutoff_km), Bands(1.4, 0.7))
    modes, state = dynamics.modes, draw_state(dynamics, np.random.default_rng(1))
    np.testing.assert_allclose(
        modes.to_field(state[X] * modes.phase((3.0, -5.0))),
        np.roll(modes.to_field(state[X]), (3, -5), axis=(0, 1)),
        atol=1e-5,
    )
    halfway = modes.to_field(state[X] * modes.phase((0.5, 0.0)))
    assert halfway.std() == pytest.approx(modes.to_field(state[X]).std(), rel=1e-4)


def test_coarse_grid_samples_the_fine_one():
    modes = make_modes(64, 3.0)
    coarse = coarsen(modes, 4)
    values = np.zeros(len(modes.ky), np.complex64)
    rng = np.random.default_rng(0)
    values[coarse.pick] = rng.normal(size=len(coarse.pick)) + 1j * rng.normal(size=len(coarse.pick))
    fine = modes.to_field(values)[::4, ::4]
    np.testing.assert_allclose(coarse.modes.to_field(values[coarse.pick]), fine, atol=1e-3)


def test_bands_stretch_along_their_direction():
    dynamics = make_dynamics(WORLD, make_modes(128, WORLD.cutoff_km), Bands(1.6, 0.0))
    rng = np.random.default_rng(0)
    fields = np.array([dynamics.modes.to_field(draw_state(dynamics, rng)[G]) for _ in range(10)])
    along, across = np.diff(fields, axis=2).var(), np.diff(fields, axis=1).var()
    assert across > 2 * along


def _births(potential):
    return cells.find_births(WORLD, potential, np.ones_like(potential), 2.0, cells.no_cells())


def test_births_are_at_maxima_above_the_threshold_only():
    potential = np.zeros((40, 40), np.float32)
    potential[10, 20], potential[30, 5] = WORLD.cell_threshold + 0.5, WORLD.cell_threshold - 0.1
    y, x, v = _births(potential)
    assert (y.tolist(), x.tolist(), v.tolist()) == ([20.0], [40.0], [1.0])


def test_no_birth_near_a_young_cell_even_across_the_periodic_boundary():
    potential = np.zeros((40, 40), np.float32)
    potential[0, 0] = 5.0
    young = cells.bear(WORLD, _births(potential), 0.0, np.random.default_rng(0))
    near = np.roll(potential, -2, axis=0)
    assert len(cells.find_births(WORLD, near, near, 2.0, young)[0]) == 0
    old = cells.age_cells(young, 40.0)
    assert len(cells.find_births(WORLD, near, near, 2.0, old)[0]) == 1
    assert len(cells.age_cells(young, 200.0)) == 0


def test_peak_rain_of_a_cell_increases_with_vigour():
    spot = np.zeros(1, np.float32)
    weak, strong = (
        cells.bear(WORLD, (spot, spot, np.array([v], np.float32)), 0.0, np.random.default_rng(0)) for v in (0.0, 2.0)
    )
    np.testing.assert_allclose(strong.peak / weak.peak, np.exp(2 * WORLD.cell_vigour_gain), rtol=1e-5)


def test_rain_of_a_cell_is_largest_in_its_center_at_its_peak_time():
    age = np.arange(0, 72, dtype=np.float32)
    life = cells.intensity(WORLD, age)
    assert life.max() == pytest.approx(1, abs=0.01)
    assert age[life.argmax()] == pytest.approx(WORLD.cell_peak_time_min, abs=1)
    one = cells.bear(WORLD, (np.array([40.0]), np.array([40.0]), np.array([1.0])), 0.0, np.random.default_rng(0))
    one = cells.age_cells(one.take(one.leader), WORLD.cell_peak_time_min)
    flat = np.zeros((81, 81), np.float32)
    rain = cells.draw_rain(WORLD, one, (flat, flat), 0.0).rain
    assert np.unravel_index(rain.argmax(), rain.shape) == (40 - cells.PATCH, 40 - cells.PATCH)
    assert rain.max() == pytest.approx(WORLD.cell_peak_mmh, rel=0.01)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_weather_is_physical(seed):
    weather = next(simulate(WORLD, draw_regime(WORLD, np.random.default_rng(seed)), 48, np.random.default_rng(seed)))
    for rain in (weather.rain_1km, weather.rain_3km, weather.ice_content):
        assert np.isfinite(rain).all()
        assert (rain >= 0).all()
    assert weather.rain_3km.max() <= WORLD.rain_cap_mmh
    assert np.abs(weather.delta_3km).max() < 2


def test_rain_at_1_km_was_at_3_km_one_frame_earlier():
    """Without memory both levels are equal; with full memory the lower one is the upper one a frame earlier, moved."""
    instant = replace(WORLD, fall_memory=0.0)
    delayed = replace(WORLD, fall_memory=1.0)
    weather = next(simulate(instant, CALM, 48, np.random.default_rng(3)))
    np.testing.assert_allclose(weather.rain_1km, weather.rain_3km, rtol=1e-5)
    first, second = islice(simulate(delayed, CALM, 48, np.random.default_rng(3)), 2)
    shift = round(CALM.drift(6.0)[1])
    np.testing.assert_allclose(second.rain_1km[:, shift:], first.rain_3km[:, :-shift], rtol=1e-5)

"""S-PROG, ANVIL and STEPS: agreement with pysteps, evolution of echo and reproducibility of members."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from polarcast.data.batch import Batch
from polarcast.models.diffusion.random_numbers import forecast_keys
from polarcast.models.nowcast.cascades import ANVIL, STEPS, ANVILConfig, STEPSConfig
from polarcast.models.nowcast.pysteps_bridge import contained
from tests.support.moving_storm import LEAD, SEEN, Fields, model, nowcast, storm, window

pytest.importorskip("pysteps")
pytest.importorskip("cv2")

NAMES = ("sprog", "anvil", "steps")


def pysteps_reference(name: str, zh: Fields, levels: int, order: int, **noise: Any) -> Fields:
    """Nowcast as in the pysteps examples, with pysteps conversions: ([m,] t, y, x) in dBZ, NaN where missing."""
    from pysteps import motion, nowcasts
    from pysteps.utils import conversion, transformation

    rate, _ = conversion.to_rainrate(zh, {"transform": "dB", "unit": "dBZ", "threshold": -99.0, "zerovalue": -99.0})
    rate = np.where(rate >= 0.1, rate, 0)
    velocity, forecast = motion.get_method("lucaskanade")(zh[-3:]), nowcasts.get_method(name)
    settings = {"n_cascade_levels": levels, "ar_order": order}
    if name == "anvil":
        ahead = forecast(rate[-order - 2 :], velocity, LEAD, **settings)
    else:
        rate_db, _ = transformation.dB_transform(rate, threshold=0.1, zerovalue=-15.0)
        ahead = forecast(rate_db[-order - 1 :], velocity, LEAD, precip_thr=-10.0, **settings, **noise)
        ahead, _ = transformation.dB_transform(ahead, threshold=-10.0, inverse=True)
    dbz, _ = conversion.to_reflectivity(ahead, {"transform": None, "unit": "mm/h", "threshold": 0.1, "zerovalue": 0.0})
    return np.where(np.isnan(ahead), np.nan, np.where(ahead >= 0.1, dbz, 0))


@pytest.mark.parametrize("levels", [3, 5])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_nowcasts_equal_those_of_pysteps(name: str, order: int, levels: int) -> None:
    observed = storm(velocity=(-4, -3))
    noise = {
        "n_ens_members": 3,
        "kmperpixel": 1.0,
        "timestep": 6.0,
        "seed": forecast_keys(window(observed), 7, 0)[0] % 2**32,
    }
    with contained():
        theirs = pysteps_reference(name, observed, levels, order, **(noise if name == "steps" else {}))
    # A side of 64 pixels has five octaves, which limits 6 levels to 5.
    ours = nowcast(name, observed, members=3, seed=7, ar_order=order, levels=3 if levels == 3 else 6)
    assert len(ours) == (3 if name == "steps" else 1)
    gaps = np.isnan(theirs)
    assert 0.1 < gaps.mean() < 0.6
    fallback = nowcast("extrapolation", observed)[0] if name == "anvil" else np.zeros_like(theirs)
    assert fallback[gaps].any() == (name == "anvil")
    np.testing.assert_allclose(ours.reshape(theirs.shape), np.where(gaps, fallback, theirs), atol=1e-4)


def test_spacing_and_time_step_change_the_nowcast() -> None:
    plain = nowcast("steps", storm())
    for key in ("spacing_km", "step_minutes"):
        assert not np.array_equal(nowcast("steps", storm(), **{key: 2.0}), plain)


def texture() -> Fields:
    """Return rain everywhere, with a constant large pattern and evolving small ones, (t, y, x) in dBZ."""
    random = np.random.default_rng(0)
    large = gaussian_filter(random.standard_normal((64, 64)), 8, mode="wrap")
    small = gaussian_filter(random.standard_normal((SEEN, 64, 64)), (0.7, 1, 1), mode="wrap")
    return 25 + 8 * large / large.std() + 5 * small / small.std()


def roughness(zh: Fields) -> Fields:
    """Return the small-scale variance away from the edges, (t,)."""
    fine = zh - gaussian_filter(zh, (0, 3, 3))
    return np.var(fine[:, 12:-12, 12:-12], axis=(1, 2))


def test_only_sprog_loses_small_scales_with_lead_time() -> None:
    observed = texture()
    variance = roughness(nowcast("sprog", observed, lead=5)[0])
    assert (np.diff(variance) < 0).all()
    assert variance[-1] < 0.4 * roughness(observed)[-1]
    for name in ("extrapolation", "anvil", "steps"):
        assert roughness(nowcast(name, observed, lead=5)[0])[-1] > 0.7 * roughness(observed)[-1]


def test_anvil_continues_growth_and_decay() -> None:
    observed = storm(velocity=(0, 0)) * np.array([0.85, 0.9, 0.95, 1.0])[:, None, None]
    peaks = nowcast("anvil", observed)[0].max((1, 2))
    assert peaks[-1] > peaks[0] > observed[-1].max() + 1
    decayed = nowcast("anvil", observed[::-1])[0].max((1, 2))
    assert decayed[-1] < decayed[0] < observed[0].max() - 1


@pytest.mark.parametrize("name", NAMES)
def test_rain_below_the_threshold_is_ignored_and_not_forecast(name: str) -> None:
    least = 10 * np.log10(200 * 2.0**1.6)
    ahead = nowcast(name, storm(velocity=(0, 0)), members=2, threshold=2.0)
    assert least - 1e-4 < ahead[ahead > 0].min() < least + 3
    fades = storm() * np.array([1, 1, 1, 0.5])[:, None, None]
    assert not nowcast(name, fades, threshold=2.0).any()


def test_smallest_threshold_keeps_no_echo_dry() -> None:
    ahead = nowcast("sprog", storm(velocity=(0, 0)), threshold=0.037)
    assert 0 < np.count_nonzero(ahead) < 0.5 * ahead.size


def test_members_depend_only_on_seed_event_frame_and_member() -> None:
    steps = model("steps", heights=2)
    one, other = (window(storm(side=32), storm(side=32, change=2.0), event=e) for e in (3, 4))
    first, second = (steps.forecast(b, 3, seed=1) for b in (one, other))
    assert first.shape == (1, 3, LEAD, 2, 32, 32)
    for batches, ahead in (((one, other), (first, second)), ((other, one), (second, first))):
        radar, event, frame = (torch.cat([getattr(b, k) for b in batches]) for k in ("radar", "event", "frame"))
        both = Batch(radar, None, event, frame, ("zh",), (1, 2))
        assert torch.equal(steps.forecast(both, 3, seed=1), torch.cat(ahead))
    assert torch.equal(steps.forecast(one, 1, seed=1), first[:, :1])
    assert torch.equal(steps.forecast(one, 2, seed=1), first[:, :2])
    for changed in (second, steps.forecast(one, 3, seed=2), first.roll(1, 1)):
        assert not torch.isclose(changed, first).flatten(2).all(2).any()


def test_equal_heights_get_equal_forecasts() -> None:
    ahead = model("steps", heights=2).forecast(window(storm(), storm()), 2, seed=1)
    assert torch.equal(ahead[:, :, :, 0], ahead[:, :, :, 1])


def test_spread_grows_and_the_ensemble_mean_beats_the_members() -> None:
    frames = storm(SEEN + 6)
    ahead = nowcast("steps", frames[:SEEN], members=6, lead=6)
    spread = ahead.std(0).mean((1, 2))
    assert spread[-1] > 1.2 * spread[0] > 0
    assert np.square(ahead.mean(0)[-1] - frames[-1]).mean() < np.square(ahead[:, -1] - frames[-1]).mean()


def test_higher_order_needs_more_frames() -> None:
    assert STEPS.frames_needed(STEPSConfig(ar_order=1)) == 3
    assert STEPS.frames_needed(STEPSConfig(ar_order=3)) == 4
    assert ANVIL.frames_needed(ANVILConfig()) == 3
    assert ANVIL.frames_needed(ANVILConfig(ar_order=2)) == 4

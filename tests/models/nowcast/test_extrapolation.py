"""All pysteps nowcasts: position of echo, unusual fields, output and random state, and missing dependencies."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.pysteps_bridge import contained, pysteps_library
from polarcast.models.registry import get_model
from tests.support.moving_storm import LEAD, SEEN, Fields, centre, csi, model, nowcast, storm, window

pytest.importorskip("pysteps")
pytest.importorskip("cv2")

NAMES = ("extrapolation", "sprog", "anvil", "steps")
DETERMINISTIC = NAMES[:3]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_moving_storm_is_forecast_at_its_future_position(name: str) -> None:
    frames = storm(SEEN + LEAD)
    ahead = nowcast(name, frames[:SEEN])[0, -1]
    persistence = nowcast("persistence", frames[:SEEN])[0, -1]
    assert csi(ahead, frames[-1]) > 0.8 > 0.5 > csi(persistence, frames[-1])
    assert np.hypot(*(centre(ahead) - centre(frames[-1]))) < 1 < np.hypot(*(centre(persistence) - centre(frames[-1])))


def test_members_scatter_around_the_future_position() -> None:
    frames = storm(SEEN + LEAD)
    members = nowcast("steps", frames[:SEEN], members=12)[:, -1]
    persistence = nowcast("persistence", frames[:SEEN])[0, -1]
    assert max(csi(m, frames[-1]) for m in members) > 0.7
    assert csi(members.mean(0), frames[-1]) > csi(persistence, frames[-1])
    assert np.hypot(*(centre(members.mean(0)) - centre(frames[-1]))) < 2


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_stationary_storm_is_forecast_in_place(name: str) -> None:
    observed = storm(velocity=(0, 0), change=0.3)
    ahead = nowcast(name, observed)[0]
    assert min(csi(field, observed[-1]) for field in ahead) > 0.9
    assert np.hypot(*(centre(ahead[-1]) - centre(observed[-1]))) < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_unchanging_fields_fall_back_to_extrapolation(name: str) -> None:
    observed = np.stack([storm(1)[0]] * SEEN)
    ahead = nowcast(name, observed, members=2)
    # ANVIL can forecast unchanging fields, and applies its threshold.
    persistence = np.where(observed[-1] < 7.1, 0, observed[-1]) if name == "anvil" else observed[-1]
    np.testing.assert_allclose(ahead, np.broadcast_to(persistence, ahead.shape), atol=1e-4)


def test_extrapolation_equals_that_of_pysteps() -> None:
    from pysteps import motion, nowcasts

    observed = storm()
    for config in ({}, {"motion_frames": 2}):
        with contained():
            velocity = motion.get_method("lucaskanade")(observed[-config.get("motion_frames", 3) :])
            theirs = nowcasts.get_method("extrapolation")(observed[-1], velocity, LEAD)
        ours = nowcast("extrapolation", observed, **config)[0]
        assert 0.02 < np.isnan(theirs).mean() < 0.2
        np.testing.assert_allclose(ours, np.nan_to_num(theirs, nan=0.0), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_heights_are_forecast_independently(name: str) -> None:
    low, high = storm(), storm(velocity=(-1, 0))
    both = model(name, heights=3).forecast(window(low, np.zeros_like(low), high), 2)
    assert torch.equal(both[0, :, :, 0].double(), torch.from_numpy(nowcast(name, low, 2)))
    assert not both[:, :, :, 1].any()
    assert torch.equal(both[0, :, :, 2].double(), torch.from_numpy(nowcast(name, high, 2)))


def bell(right: int, down: int) -> Fields:
    """Return a smooth bell, for which pysteps finds a non-stationary process."""
    y, x = np.mgrid[:64, :64]
    return 45 * np.exp(-((x - 31 - right) ** 2 + (y - 27 - down) ** 2) / 98)


def pixel() -> Fields:
    field = np.zeros((32, 32))
    field[12, 20] = 40
    return field


DRY, FLAT, TINY = np.zeros((32, 32)), np.full((32, 32), 30.0), storm(side=32, velocity=(1, 0))
CORNERS = {
    "dry": np.stack([DRY] * SEEN),
    "below zero": np.full((SEEN, 32, 32), -8.0),
    "flat": np.stack([FLAT] * SEEN),
    "flat and faint": np.stack([FLAT / 10] * SEEN),
    "brightening everywhere": np.stack([FLAT + t for t in range(SEEN)]),
    "one pixel": np.stack([pixel()] * SEEN),
    "one pixel on the move": np.stack([np.roll(pixel(), t, 1) for t in range(SEEN)]),
    "one pixel of a storm is left": np.stack([*TINY[:3], pixel()]),
    "rain at last": np.stack([DRY, DRY, DRY, TINY[-1]]),
    "rain before": np.stack([*TINY[:3], DRY]),
    "a dry frame between": np.stack([TINY[0], TINY[1], DRY, TINY[3]]),
    "an edge": np.where(np.arange(32) == 0, 30.0, 0) * np.ones((SEEN, 32, 1)),
    "checks": np.stack([40.0 * ((np.indices((32, 32)).sum(0) + t) % 2) for t in range(SEEN)]),
    "doubling": TINY[-1] * np.array([1, 2, 4, 8])[:, None, None] / 8,
    "not a number": np.where(np.indices((SEEN, 32, 32))[1] < 12, np.nan, TINY),
    "smooth": np.stack([bell(3 * t, t) for t in range(SEEN)]),
    "a tiny grid": storm(side=8, velocity=(0, 0)),
    "not square": TINY[:, :21, :27],
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("corner", CORNERS)
def test_unusual_fields_give_valid_forecasts(name: str, corner: str) -> None:
    observed = CORNERS[corner]
    ahead = nowcast(name, observed, members=2)
    assert ahead.shape == (2 if name == "steps" else 1, LEAD, *observed.shape[1:])
    assert np.isfinite(ahead).all()
    assert (ahead >= 0).all()
    if corner in ("dry", "below zero", "rain before"):
        assert not ahead.any()
    if corner == "not a number":
        np.testing.assert_array_equal(ahead, nowcast(name, np.nan_to_num(observed), members=2))
    if corner in ("flat", "one pixel"):
        np.testing.assert_allclose(ahead, np.broadcast_to(observed[-1], ahead.shape), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(frames=st.lists(st.tuples(st.floats(0.3, 6), st.floats(-40, 40)), min_size=SEEN, max_size=SEEN))
def test_any_field_gives_finite_non_negative_echo(name: str, frames: list[tuple[float, float]]) -> None:
    random = np.random.default_rng(0)
    noise = [(gaussian_filter(random.standard_normal((32, 32)), size), shift) for size, shift in frames]
    ahead = nowcast(name, np.stack([30 * field / field.std() + shift for field, shift in noise]), members=2)
    assert np.isfinite(ahead).all()
    assert (ahead >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_forecast_does_not_depend_on_precision_and_other_variables(name: str) -> None:
    batch = window(storm().astype(np.float16).astype(np.float64))
    radar = torch.cat([torch.ones_like(batch.radar), batch.radar], 2).half()
    dual = Batch(radar, None, batch.event, batch.frame, ("zdr", "zh"), batch.heights_km)
    ahead = model(name).forecast(dual)
    assert ahead.dtype == torch.float32
    assert torch.equal(ahead, model(name).forecast(batch))
    with pytest.raises(ValueError, match="not in tuple"):
        model(name).forecast(Batch(radar, None, batch.event, batch.frame, ("zdr", "kdp"), batch.heights_km))


def test_forecast_runs_on_the_meta_device() -> None:
    batch = window(storm(), storm()).to("meta")
    assert model("steps", 2).forecast(batch, 5).shape == (1, 5, LEAD, 2, 64, 64)
    assert model("sprog", 2).forecast(batch, 5).shape == (1, 1, LEAD, 2, 64, 64)


@pytest.mark.parametrize("name", NAMES)
def test_forecast_prints_nothing_and_keeps_the_numpy_random_state(
    name: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    np.random.seed(5)  # noqa: NPY002
    nowcast(name, storm(), members=2)
    assert np.random.random() == np.random.RandomState(5).random_sample()  # noqa: NPY002
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_import_of_pysteps_prints_no_banner(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    pysteps_library.cache_clear()
    for name in [m for m in sys.modules if m.split(".")[0] == "pysteps"]:
        monkeypatch.delitem(sys.modules, name)
    pysteps_library()
    assert "pysteps" in sys.modules
    assert capfd.readouterr() == ("", "")
    pysteps_library.cache_clear()


def test_random_state_is_restored_after_an_error() -> None:
    np.random.seed(5)  # noqa: NPY002
    with pytest.raises(ValueError, match="Seed"), contained():
        np.random.seed(np.random.randint(9) - 99)  # noqa: NPY002
    assert np.random.random() == np.random.RandomState(5).random_sample()  # noqa: NPY002


@pytest.mark.parametrize("missing", ["pysteps", "cv2"])
def test_missing_dependency_raises_with_the_install_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pysteps_library.cache_clear()
    for name in [missing, *(m for m in sys.modules if m.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadInput, match=r"model\.name: .* not installed — .*pip install 'polarcast\[nowcast\]'"):
        model("extrapolation")


@pytest.mark.parametrize("name", NAMES)
def test_inputs_without_zh_or_with_too_few_frames_raise(name: str) -> None:
    build, config = get_model(name).build, get_model(name).config()
    with pytest.raises(BadInput, match=r"data\.variables: .* needs zh"):
        build(config, InputSpec(("zdr", "kdp"), (1.0,), frames=4, lead_frames=1))
    with pytest.raises(BadInput, match=r"data\.seen_frames: 2 input frames are too few — give 3 or more"):
        build(config, InputSpec(("zh",), (1.0,), frames=2, lead_frames=1))

"""Tests of growth and decay along the motion, on moving fields whose change is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from polarcast.data.explore.growth import CLASSES_DBZ, LEADS_MIN, GrowthRecord, frames_of

SIZE, FRAMES, DRIFT = 96, 12, (2, -3)


def texture(seed: int, scale: float) -> np.ndarray:
    """Return a periodic field of mean 0 and standard deviation 1."""
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((SIZE, SIZE)), scale, mode="wrap")
    return np.asarray(field / field.std())


def moving(start: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
    """Return frames (t, y, x) of a periodic field that drifts and changes by `rate` per frame along its way."""
    return np.stack([np.roll(start + t * rate, (DRIFT[0] * t, DRIFT[1] * t), (0, 1)) for t in range(FRAMES)]).astype(
        np.float32
    )


def recorded(fields: dict[str, np.ndarray], observed: np.ndarray | None = None, step: float = 6.0) -> GrowthRecord:
    record = GrowthRecord(tuple(fields), step)
    record.add(fields, np.ones((FRAMES, SIZE, SIZE), bool) if observed is None else observed)
    return record


@pytest.mark.parametrize("rate", [-1.0, 0.0, 0.5])
def test_the_change_of_a_moving_storm_is_that_along_its_way(rate: float) -> None:
    change = recorded({"zh": moving(32 + 6 * texture(0, 4), rate)}).change()
    known = np.isfinite(change).all(axis=1)
    assert known[1:3].all()
    # All pixels change alike; what remains is the rounding of the motion to whole pixels.
    np.testing.assert_allclose(change[known], 5 * rate, atol=0.15)
    # A storm that does not move with the frames would change: the reference is no stand-still.
    still = moving(32 + 6 * texture(0, 4), rate)
    assert np.abs(still[5] - still[0] - 5 * rate).mean() > 2


def test_echo_that_vanishes_ends_at_5_dbz() -> None:
    zh = moving(20 + 2 * texture(0, 4), 0.0)
    zh[6:, :, : SIZE // 2] = 0
    change = recorded({"zh": zh}).change()
    class_of = CLASSES_DBZ.index(10)
    assert change[class_of, 1] == pytest.approx(5 - 18.5, abs=1.5)


def test_pixels_that_are_not_observed_do_not_count() -> None:
    zh = moving(15 + 12 * texture(0, 4), 0.0).clip(5)
    observed = np.ones(zh.shape, bool)
    observed[:, :, : SIZE // 4] = False
    hidden = np.where(observed, zh, 0)
    mean, low, _ = recorded({"zh": hidden}, observed).change()[1:3].T
    np.testing.assert_allclose(mean, 0, atol=0.5)
    assert low.min() > -4
    # Without the masks, the same fields would tell of decay.
    assert recorded({"zh": hidden}).change()[1:3, 1].max() < -10


def test_a_lost_frame_does_not_tell_of_decay() -> None:
    zh = moving(32 + 6 * texture(0, 4), 0.0)
    zh[5] = 0
    np.testing.assert_allclose(recorded({"zh": zh}).change()[1:3], 0, atol=0.5)


def test_the_correlation_is_that_of_anomalies_at_given_zh() -> None:
    zh, growth = 32 + 5 * texture(0, 5), texture(1, 5)
    tells = moving(0.03 * zh + 0.3 * growth, 0.0)
    opposite = moving(0.03 * zh - 0.3 * growth, 0.0)
    silent = moving(0.03 * zh + 0.3 * texture(2, 5), 0.0)
    frames = moving(zh, 0.6 * growth)
    told = recorded({"zh": frames, "zdr": tells, "kdp": silent}).information()
    assert set(told) == {"zdr", "kdp"}
    assert (told["zdr"] > 0.9).all()
    assert (np.abs(told["kdp"]) < 0.35).all()
    assert (recorded({"zh": frames, "zdr": opposite}).information()["zdr"] < -0.9).all()


def test_a_function_of_zh_tells_nothing_beyond_zh_also_where_strong_echo_decays() -> None:
    zh = 32 + 5 * texture(0, 5)
    decays = moving(zh, -0.03 * (zh - 32) + 0.05 * texture(1, 5))
    alone = 0.03 * decays + 0.0005 * (decays - 32) ** 2 + moving(0.05 * texture(2, 5), 0.0)
    along = decays[5] - np.roll(decays[0], (10, -15), (0, 1))
    assert np.corrcoef(np.roll(alone[0], (10, -15), (0, 1)).ravel(), along.ravel())[0, 1] < -0.7
    assert (np.abs(recorded({"zh": decays, "zdr": alone}).information()["zdr"]) < 0.35).all()


@pytest.mark.parametrize(("step", "frames"), [(6, [1, 3, 5]), (5, [None, None, 6]), (10, [None, None, 3])])
def test_a_lead_time_is_a_number_of_frames_or_left_out(step: float, frames: list[int | None]) -> None:
    assert [frames_of(minutes, step) for minutes in LEADS_MIN] == frames

"""Recognise forecasts equal to the truth, persistence, and forecasts shifted in time by a frame."""

import numpy as np
import numpy.typing as npt

from polarcast.hpc.leaderboard.claims.signs import ClaimSample, Fields, Sign, is_equal, squared_error

_CLEAR, _VERY_CLEAR = 0.8, 0.4
"""Squared error at the other time over that at the own time, at most; the second, where one lead time must do."""
_LEAST_SHARE, _ALMOST_ALL, _LEAST_LEAKED = 0.6, 0.99, 0.1
_LATE_FIX = (
    "the first forecast frame is the one after the last input frame; an output that begins with the last input frame "
    "must be cut, or --seen-frames is one too many"
)
_EARLY_FIX = "a forecast frame must not show a later time: look for an index off by one, and for future frames as input"


def find_truth(sample: ClaimSample, forecast: Fields) -> Sign | None:
    """Return the sign that forecasts are the observation itself; None if they are not.

    Args:
        sample: Forecasts and observations.
        forecast: Ensemble mean put right, (n, t, z, y, x).
    """
    share = np.fmax(sample.equal, equal_share(forecast, sample.observed, sample))
    if sample.is_nowcast:  # a frame that repeats the last one is no leak, and persistence is right about it
        last = np.broadcast_to(sample.cue[:, None], forecast.shape)
        share = np.where(equal_share(last, sample.observed, sample) >= _ALMOST_ALL, np.nan, share)
    known = np.isfinite(share)
    leaked = known & (share >= _ALMOST_ALL)
    if leaked.sum() < max(1, _LEAST_LEAKED * known.sum()):
        return None
    evidence = (
        f"equal within rounding at {np.nanmean(np.where(leaked, share, np.nan)):.1%} of the echo pixels of "
        f"{leaked.sum()} of {known.sum()} forecast frames"
    )
    fix = "look for the target among the inputs, or for files of observations written as forecasts"
    return Sign("equal-to-truth", "forecast equal to the truth", evidence, fix)


def find_persistence(sample: ClaimSample, forecast: Fields) -> str:
    """Return a note if all frames are the last input frame; empty otherwise, and for rain."""
    if not sample.is_nowcast:
        return ""
    last = np.broadcast_to(sample.cue[:, None], forecast.shape)
    share = equal_share(forecast, last, sample)
    if not np.isfinite(share).any() or np.nanmin(share) < _ALMOST_ALL:
        return ""
    return "the forecasts are persistence: each frame equals the last input frame"


def equal_share(forecast: Fields, target: Fields, sample: ClaimSample) -> Fields:
    """Return the share of the pixels with echo in either field that are equal, (n, t); NaN with few of them."""
    with np.errstate(invalid="ignore"):
        echo = ((forecast >= sample.echo_level) | (target >= sample.echo_level)) & ~np.isnan(target)
    same = is_equal(forecast, target, sample.unit) & echo
    count = echo.sum((2, 3, 4))
    return np.divide(same.sum((2, 3, 4)), count, out=np.full(count.shape, np.nan), where=count >= 10).astype(np.float32)


def find_shift(sample: ClaimSample, forecast: Fields) -> Sign | None:
    """Return the sign that the forecast shows the time of another frame; None if it does not.

    A forecast that lags, or that hardly moves, resembles earlier frames too. So every lead time must fit the frame one
    before or after its own clearly better than its own frame and better than the frame beyond.

    Args:
        sample: Forecasts and observations.
        forecast: Ensemble mean put right, (n, t, z, y, x).
    """
    if sample.is_nowcast and sample.leads > 1 and (sign := _begins_with_input(sample, forecast)):
        return sign
    if sample.is_nowcast and (sign := _persists_of_another(sample, forecast)):
        return sign
    errors = {k: _errors_at(sample, forecast, k) for k in (-2, -1, 0, 1, 2)}
    for shift, name, title, fix in (
        (1, "time-early", "time shifted by a frame: forecasts show the next frame, of the future", _EARLY_FIX),
        (-1, "time-late", "time shifted by a frame: forecasts show the frame before theirs", _LATE_FIX),
    ):
        if not _is_shifted(sample, errors, shift):
            continue
        own, other = (np.sqrt(np.nanmean(errors[k])) for k in (0, shift))
        measure = "RMSE in dBZ" if sample.is_nowcast else "difference of the patterns"
        evidence = f"{measure} from the frame of their own time {own:.3g}, from the {_word(shift)} {other:.3g}"
        return Sign(name, title, evidence, fix)
    return None


def _word(shift: int) -> str:
    return "next frame" if shift > 0 else "frame before"


def _begins_with_input(sample: ClaimSample, forecast: Fields) -> Sign | None:
    """Return the sign that the first frame is the last input frame, and the others are not."""
    last = np.broadcast_to(sample.cue[:, None], forecast.shape)
    share = equal_share(forecast, last, sample)
    moving = np.isfinite(share).all(1) & (share[:, 1] < _ALMOST_ALL)
    if moving.sum() < max(1, _LEAST_SHARE * np.isfinite(share[:, 0]).sum()):
        return None
    first = share[moving, 0]
    if (first >= _ALMOST_ALL).mean() < _LEAST_SHARE:
        return None
    evidence = (
        f"the first frame equals the last input frame at {first.mean():.1%} of the echo pixels, "
        f"the second at {share[moving, 1].mean():.0%}"
    )
    return Sign("time-late", "time shifted by a frame: forecasts begin with the last input frame", evidence, _LATE_FIX)


def _persists_of_another(sample: ClaimSample, forecast: Fields) -> Sign | None:
    """Return the sign that all frames are one of another time than the last input frame; None if they are not."""
    for shift, name, fix in ((-2, "time-late", _LATE_FIX), (0, "time-early", _EARLY_FIX)):
        position = sample.start + shift
        if position < 0 or (shift == 0 and sample.leads < 2):
            continue
        share = equal_share(forecast, np.broadcast_to(sample.frames[:, position, None], forecast.shape), sample)
        if np.isfinite(share).any() and np.nanmin(share) >= _ALMOST_ALL:
            which = "the frame before the last input frame" if shift < 0 else "the first frame to forecast"
            title = "time shifted by a frame: persistence of another frame"
            return Sign(name, title, f"all forecast frames equal {which}", fix)
    return None


def _errors_at(sample: ClaimSample, forecast: Fields, shift: int) -> npt.NDArray[np.float64]:
    """Return the squared error of each forecast frame to the frame `shift` later, (n, t); NaN without such a frame."""
    found = np.full(forecast.shape[:2], np.nan)
    for lead in range(sample.leads):
        position = sample.start + lead + shift
        if 0 <= position < sample.frames.shape[1]:
            pair = forecast[:, lead], sample.frames[:, position]
            found[:, lead] = squared_error(*(pair if sample.is_nowcast else map(_pattern, pair)))
    return found


def _pattern(rain: Fields) -> Fields:
    """Return the pattern of rain, (n, …): a law may be off by a factor, which has nothing to do with time."""
    axes = tuple(range(1, rain.ndim))
    logarithm = np.log1p(np.maximum(rain, 0))
    spread = np.nanstd(logarithm, axes, keepdims=True)
    found: Fields = (logarithm - np.nanmean(logarithm, axes, keepdims=True)) / np.where(spread > 0, spread, np.nan)
    return found


def _is_shifted(sample: ClaimSample, errors: dict[int, npt.NDArray[np.float64]], shift: int) -> bool:
    """Whether every lead time with a frame `shift` later fits that one clearly better than its neighbors."""
    known = np.isfinite(errors[0]) & np.isfinite(errors[shift])
    leads = [lead for lead in range(sample.leads) if known[:, lead].any()]
    if not leads or (sample.is_nowcast and shift < 0 and len(leads) < 3):
        return False  # of one or two lead times, a lag and a shift can't be told apart
    limit = _CLEAR if len(leads) > 1 else _VERY_CLEAR
    for lead in leads:
        rows = known[:, lead]
        own, other = errors[0][rows, lead], errors[shift][rows, lead]
        if not other.sum() < limit * own.sum() or (other < own).mean() < _LEAST_SHARE:
            return False
        beyond = errors[2 * shift][:, lead]
        both = rows & np.isfinite(beyond)
        is_analysis = sample.is_nowcast and shift < 0 and lead == 0
        if both.any() and not is_analysis and not errors[shift][both, lead].sum() < _CLEAR * beyond[both].sum():
            return False
    return True

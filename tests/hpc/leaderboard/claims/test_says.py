"""Claimed scores agree with recomputed ones, or with those of the error that was made; each planted error is named."""

import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.hpc.leaderboard.claims.sample import WindowSums
from polarcast.hpc.leaderboard.claims.says import Checked, Recomputed, check_says, parse_says, thresholds_of
from polarcast.hpc.scores.protocol import ZH_THRESHOLDS_DBZ, Protocol, nowcast_protocol
from polarcast.hpc.scores.sums import score_fields
from tests.support.claim_samples import LEAD, SEEN, SIDE, Fields, moved, storms

FRAMES, MOTION = storms(11)
TRUTH = FRAMES[:, SEEN : SEEN + LEAD]
AHEAD = moved(FRAMES[:, SEEN - 1], MOTION)
EVENTS = np.array([0, 0, 1, 1, 2, 2, 2, 3])
HIDDEN = np.zeros((SIDE, SIDE), bool)
HIDDEN[:12] = True


def sums(forecast: Fields, observed: Fields, thresholds: list[float]) -> WindowSums:
    """Return the sums of nowcasts (n, t, z, y, x)."""
    protocol = nowcast_protocol((SIDE, SIDE), 1, (6.0, 12.0, 18.0), (1.0, 3.0))
    levels = tuple(sorted({*ZH_THRESHOLDS_DBZ, *thresholds}))
    protocol = Protocol(**{**protocol.as_record(), "threshold": levels})
    fields = [torch.from_numpy(np.ascontiguousarray(f)).flatten(0, 2) for f in (forecast, observed)]
    found = score_fields(fields[0][:, None], fields[1], protocol, ("contingency", "continuous"))
    shaped = {name: of.double().numpy().reshape(*TRUTH.shape[:3], *of.shape[1:]) for name, of in found.items()}
    return WindowSums(protocol, EVENTS, shaped, "", {})


def checked(*texts: str) -> list[Checked]:
    claims = parse_says(texts)
    levels = thresholds_of(claims)
    seen = np.where(HIDDEN, np.nan, TRUTH).astype(np.float32)
    all_pixels = np.where(HIDDEN, 0, TRUTH).astype(np.float32)
    windows, everywhere = sums(AHEAD, seen, levels), sums(AHEAD, all_pixels, levels)
    return check_says(claims, Recomputed(windows, everywhere, sums(AHEAD / 2, seen, levels)))


def counts(forecast: Fields, observed: Fields, threshold: float) -> tuple[int, int, int, int]:
    """Return hits, misses, false alarms and correct negatives, counted here."""
    f, o = (fields[..., ~HIDDEN] >= threshold for fields in (forecast, observed))
    return int((f & o).sum()), int((~f & o).sum()), int((f & ~o).sum()), int((~f & ~o).sum())


def csi(forecast: Fields, observed: Fields, threshold: float) -> float:
    hits, misses, false_alarms, _ = counts(forecast, observed, threshold)
    return hits / (hits + misses + false_alarms) if hits + misses + false_alarms else np.nan


def rmse(forecast: Fields, observed: Fields) -> float:
    return float(np.sqrt(np.square(forecast[..., ~HIDDEN] - observed[..., ~HIDDEN], dtype=np.float64).mean()))


HITS, MISSES, FALSE_ALARMS, NEGATIVES = counts(AHEAD, TRUTH, 20)
POD, FAR = HITS / (HITS + MISSES), FALSE_ALARMS / (HITS + FALSE_ALARMS)
BY_EVENT = [csi(AHEAD[of], TRUTH[of], 20) for of in (np.flatnonzero(number == EVENTS) for number in range(4))]
PLANTED = {
    "pod@threshold=20": [
        (FAR, "the FAR: POD and FAR exchanged"),
        (1 - FAR, "1 − FAR, the success ratio: POD and precision exchanged"),
    ],
    "far@threshold=20": [
        (POD, "the POD: POD and FAR exchanged"),
        (FALSE_ALARMS / (FALSE_ALARMS + NEGATIVES), "the POFD: false alarm rate in place of false alarm ratio"),
    ],
    "csi@threshold=35": [
        (csi(AHEAD, TRUTH, 35 * 80 / 255), "the score at 10.98: threshold 35 applied on values of 0 to 255 of 80 dBZ"),
        (csi(AHEAD, TRUTH, 35 * 70 / 255), "the score at 9.608: threshold 35 applied on values of 0 to 255 of 70 dBZ"),
    ],
    "csi@threshold=0.25": [
        (csi(AHEAD, TRUTH, 20), "the score at 20: threshold 0.25 applied on values of 0 to 1 of 80 dBZ"),
    ],
    "csi@threshold=20": [
        (2 * HITS / (2 * HITS + MISSES + FALSE_ALARMS), "F1 = 2 CSI / (1 + CSI)"),
        (float(np.mean(BY_EVENT)), "the mean of the scores of single events"),
        (max(BY_EVENT), "the score of the best event alone"),
        (csi(AHEAD[:, :1], TRUTH[:, :1], 20), "the score of the first lead time alone"),
        (csi(AHEAD[:, :, :1], TRUTH[:, :, :1], 20), "the score of the lowest height alone"),
        (csi(AHEAD / 2, TRUTH, 20), "the score of the forecasts put right"),
    ],
    "rmse": [
        (rmse(AHEAD, TRUTH) / 80, "the score on values of 0 to 1 of 80 dBZ"),
        (rmse(AHEAD, TRUTH) * 255 / 80, "the score on values of 0 to 255 of 80 dBZ"),
        (rmse(AHEAD, TRUTH) ** 2, "the MSE"),
        (float(np.mean([rmse(AHEAD[:, t], TRUTH[:, t]) for t in range(LEAD)])),
         "the mean of the scores of the lead times"),
        (float(np.sqrt(np.square(AHEAD - np.where(HIDDEN, 0, TRUTH), dtype=np.float64).mean())),
         "the score with pixels that were not observed"),
    ],
}  # fmt: skip
CASES = [(score, value, reason) for score, planted in PLANTED.items() for value, reason in planted]


@pytest.mark.parametrize(("score", "value", "reason"), CASES, ids=[reason for *_, reason in CASES])
def test_the_error_of_a_claimed_score_is_named(score: str, value: float, reason: str) -> None:
    [found] = checked(f"{score}={value:.6f}")
    assert not found.agrees
    assert list(found.reasons) == [reason]
    assert found.reasons[reason] == pytest.approx(value, abs=1e-6)


def test_right_scores_agree_and_others_have_no_reason() -> None:
    right = {"pod@threshold=20": POD, "far@threshold=20": FAR, "rmse": rmse(AHEAD, TRUTH),
             "csi@threshold=20": csi(AHEAD, TRUTH, 20)}  # fmt: skip
    assert all(one.agrees and not one.reasons for one in checked(*(f"{k}={v:.3f}" for k, v in right.items())))
    [found] = checked("csi@threshold=20=0.98765")
    assert not found.agrees
    assert found.reasons == {}


def test_a_claim_is_as_exact_as_its_digits() -> None:
    value = csi(AHEAD, TRUTH, 20)
    assert checked(f"csi@threshold=20={value:.2f}")[0].agrees
    assert not checked(f"csi@threshold=20={value + 0.002:.4f}")[0].agrees
    assert [one.decimals for one in parse_says(["rmse=30", "rmse=3.20", "rmse=3.2e-2"])] == [0, 2, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("csi@threshold=35", "has no value of a score"), ("rmse", "has no value"), ("rmse=nan", "has no value"),
        ("rmse=good", "has no value"), ("=3", "has no value"), ("csii@threshold=35=0.42", "unknown metric 'csii'"),
        ("csi@threshold=*=0.42", "selects many scores"), ("csi=1.0", "is not a score"),
        ("csi@threshold=35=1", "too few digits"), ("csi@threshold=35=0", "too few digits"),
        ("rmse=3", "too few digits"), ("csi@threshold=35=0.4", "too few digits"),
    ],
)  # fmt: skip
def test_other_texts_are_refused(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words.replace("*", r"\*")):
        parse_says([text])

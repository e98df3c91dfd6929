"""Every planted error is recognised and named, alone; honest forecasts, also useless ones, give no sign."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.hpc.leaderboard.claims.judge import find_signs
from polarcast.hpc.leaderboard.claims.signs import ClaimSample
from tests.support.claim_samples import (
    LEAD,
    PLACES,
    SEEN,
    VALUES_OF_RAIN,
    VALUES_OF_ZH,
    Fields,
    honest_estimates,
    honest_nowcasts,
    moved,
    rain_sample,
    storms,
    zh_sample,
)

SEEDS = st.integers(0, 10_000)


def names(sample: ClaimSample) -> list[str]:
    return [sign.name for sign in find_signs(sample)[0]]


@settings(max_examples=12)
@given(SEEDS)
def test_honest_nowcasts_give_no_sign(seed: int) -> None:
    frames, forecasts = honest_nowcasts(seed)
    found = {name: names(zh_sample(fields, frames)) for name, fields in forecasts.items()}
    assert not {name: signs for name, signs in found.items() if signs}


@settings(max_examples=12)
@given(SEEDS)
def test_honest_estimates_give_no_sign(seed: int) -> None:
    rain, zh, estimates = honest_estimates(seed)
    found = {name: names(rain_sample(fields, rain, zh)) for name, fields in estimates.items()}
    assert not {name: signs for name, signs in found.items() if signs}


@settings(max_examples=6)
@given(SEEDS, st.sampled_from(["extrapolation", "skilful", "blurred"]))
def test_axes_are_recognised_and_put_right(seed: int, of: str) -> None:
    frames, forecasts = honest_nowcasts(seed)
    for name, plant in PLACES.items():
        signs, right, _ = find_signs(zh_sample(np.ascontiguousarray(plant(forecasts[of])), frames))
        assert [sign.name for sign in signs] == [name]
        np.testing.assert_array_equal(right(plant(forecasts[of])), forecasts[of].astype(np.float32))


@settings(max_examples=6)
@given(SEEDS)
def test_values_of_nowcasts_are_recognised(seed: int) -> None:
    frames, forecasts = honest_nowcasts(seed)
    ahead = forecasts["extrapolation"]
    found = {name: names(zh_sample(plant(ahead).astype(np.float32), frames))
             for name, (_, plant) in VALUES_OF_ZH.items()}  # fmt: skip
    assert found == {name: [sign] for name, (sign, _) in VALUES_OF_ZH.items()}


@settings(max_examples=6)
@given(SEEDS)
def test_values_of_estimates_are_recognised(seed: int) -> None:
    rain, zh, estimates = honest_estimates(seed)
    found = {name: names(rain_sample(plant(estimates["law"]).astype(np.float32), rain, zh))
             for name, (_, plant) in VALUES_OF_RAIN.items()}  # fmt: skip
    assert found == {name: [sign] for name, (sign, _) in VALUES_OF_RAIN.items()}


@settings(max_examples=6)
@given(SEEDS, st.sampled_from(["transposed", "flipped-y", "rotated-180"]))
def test_two_errors_are_both_named(seed: int, place: str) -> None:
    frames, forecasts = honest_nowcasts(seed)
    for name in ("÷ 80", "0–255 of 80", "NaN"):
        sign, plant = VALUES_OF_ZH[name]
        wrong = np.ascontiguousarray(plant(PLACES[place](forecasts["extrapolation"])))
        assert sorted(names(zh_sample(wrong.astype(np.float32), frames))) == sorted([place, sign])


def test_a_scale_is_undone_up_to_its_upper_end() -> None:
    frames, forecasts = honest_nowcasts(3)
    ahead = forecasts["extrapolation"]
    _, right, _ = find_signs(zh_sample(ahead / 80, frames))
    assert np.polyfit(ahead.ravel(), right(ahead / 80).ravel(), 1) == pytest.approx([1, 0], abs=0.1)


def truth_of(frames: Fields, first: int = SEEN) -> Fields:
    return frames[:, first : first + LEAD].copy()


@pytest.mark.parametrize("seed", range(4))
def test_the_truth_is_recognised(seed: int) -> None:
    frames, motion = storms(seed)
    truth = truth_of(frames)
    for leaked in (truth, truth.astype(np.float16).astype(np.float32), np.round(truth * 255 / 80) * 80 / 255):
        assert names(zh_sample(leaked.astype(np.float32), frames)) == ["equal-to-truth"]
    one_member = np.stack([moved(frames[:, SEEN - 1], motion), truth], 1)
    assert names(zh_sample(one_member, frames)) == ["equal-to-truth"]
    last_lead = np.concatenate([moved(frames[:, SEEN - 1], motion, LEAD - 1), truth[:, -1:]], 1)
    assert names(zh_sample(last_lead, frames)) == ["equal-to-truth"]
    assert set(names(zh_sample(truth / 80, frames))) == {"scale-0-1", "equal-to-truth"}


def test_repeated_frames_are_no_leak() -> None:
    """Where an archive repeats a frame, persistence is right."""
    frames, _ = storms(1)
    frames[:, SEEN] = frames[:, SEEN - 1]
    assert names(zh_sample(np.repeat(frames[:, SEEN - 1 : SEEN], LEAD, 1), frames)) == []


def test_persistence_is_a_note() -> None:
    frames, _ = storms(2)
    signs, _, note = find_signs(zh_sample(np.repeat(frames[:, SEEN - 1 : SEEN], LEAD, 1), frames))
    assert not signs
    assert "the forecasts are persistence" in note


@pytest.mark.parametrize("seed", range(4))
def test_shifts_in_time_are_recognised(seed: int) -> None:
    frames, motion = storms(seed)
    last = frames[:, SEEN - 1]
    rng = np.random.default_rng(seed)

    def noisy(fields: Fields) -> Fields:
        return np.clip(fields + rng.normal(0, 4, fields.shape), 0, None).astype(np.float32)

    late = [
        moved(last, motion, first=0),  # begins with the last input frame
        noisy(truth_of(frames, SEEN - 1)),
        np.repeat(frames[:, SEEN - 2 : SEEN - 1], LEAD, 1),  # persistence of the frame before
    ]
    early = [
        noisy(truth_of(frames, SEEN + 1)),
        truth_of(frames, SEEN + 1),
        np.repeat(frames[:, SEEN : SEEN + 1], LEAD, 1),  # persistence of the frame that is forecast
    ]
    assert [names(zh_sample(fields, frames)) for fields in late] == [["time-late"]] * 3
    assert [names(zh_sample(fields, frames)) for fields in early] == [["time-early"]] * 3


@pytest.mark.parametrize("seed", range(4))
def test_estimates_of_another_frame_are_recognised(seed: int) -> None:
    rain, zh, _ = honest_estimates(seed)
    noise = np.random.default_rng(seed).lognormal(0, 0.3, rain[:, 0].shape).astype(np.float32)
    for position, name in ((0, "time-late"), (2, "time-early")):
        assert names(rain_sample(rain[:, position] * noise, rain, zh)) == [name]
    assert names(rain_sample(rain[:, 1], rain, zh)) == ["equal-to-truth"]


def test_evidence_has_numbers_and_says_what_to_do() -> None:
    frames, forecasts = honest_nowcasts(5)
    [sign] = find_signs(zh_sample(forecasts["extrapolation"].swapaxes(-1, -2).copy(), frames))[0]
    assert "8 windows" in sign.evidence
    assert sign.fix == "exchange the last two axes"
    assert set(sign.as_record()) == {"name", "title", "evidence", "fix"}


def test_windows_without_echo_and_without_observation_give_no_sign() -> None:
    frames, _ = storms(6)
    nothing = np.zeros_like(frames)
    assert names(zh_sample(truth_of(frames), nothing)) == []
    assert names(zh_sample(truth_of(nothing), np.full_like(frames, np.nan))) == []


def test_the_guide_lists_every_sign() -> None:
    page = (Path(__file__).resolve().parents[4] / "docs" / "guides" / "claims.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([\w-]+)`", page.partition("## Signs")[2].partition("That the forecasts")[0]))
    planted = {sign for plants in (VALUES_OF_ZH, VALUES_OF_RAIN) for sign, _ in plants.values()}
    assert listed == {*PLACES, *planted, "time-late", "time-early", "equal-to-truth"}

"""Tests of the order of frames: few false alarms on small storms, misplaced frames are found, chance is no evidence."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from polarcast.data.check.facts import FrameFacts, frame_facts
from polarcast.data.check.order import FrameOrder, examine_order
from polarcast.data.check.swapped import swapped
from polarcast.data.synth.generate import PRESETS, draw_length, generate_event

ALARMED = ((0, 20), (1, 19), (3, 21))
"""(seed, event) of 32 x 32 pixels in which a correlation alone takes a frame for misplaced."""


def _facts(zh: np.ndarray, numbers: Sequence[int] | None = None) -> list[FrameFacts]:
    """Summarize fields (t, y, x) in dBZ."""
    numbers = range(len(zh)) if numbers is None else numbers
    return [frame_facts(n, field[None, None], None, ("zh",)) for n, field in zip(numbers, zh, strict=True)]


def _storm(seed: int, event: int, size: int, frames: int, preset: str = "tiny") -> np.ndarray:
    return generate_event(PRESETS[preset], seed, event, size, frames).radar[:, 0, 0].copy()


def _in_order(facts: Sequence[FrameFacts], order: Sequence[int]) -> list[FrameFacts]:
    """Return the frames in another order, numbered by it."""
    return [replace(facts[i], frame=number) for number, i in enumerate(order)]


def _alarm(order: FrameOrder) -> bool:
    return order.move is not None and order.move.is_sure


@pytest.fixture(scope="module")
def storms() -> list[list[FrameFacts]]:
    """Summaries of ordered events, 12 frames of 96 x 96 pixels."""
    return [_facts(_storm(5, event, 96, 12, preset)) for preset in ("meiyu", "njucpol", "varied") for event in range(3)]


@pytest.mark.parametrize(("seed", "event"), ALARMED)
def test_small_storms_of_the_generator_are_in_order(seed: int, event: int) -> None:
    order = examine_order(_facts(_storm(seed, event, 32, draw_length(seed, event))))
    assert order.judged > 20
    assert not _alarm(order), order


def test_the_share_of_misplaced_frames_that_are_found(storms: list[list[FrameFacts]]) -> None:
    found: dict[str, list[bool]] = {"exchanged": [], "moved": []}
    for facts in storms:
        assert not _alarm(examine_order(facts))
        for frame in (2, 5, 8):
            for defect, place in (("exchanged", frame + 1), ("moved", (frame + 5) % 12)):
                order = list(range(12))
                order.insert(place, order.pop(frame))
                found[defect].append(_alarm(examine_order(_in_order(facts, order))))
    rates = {defect: float(np.mean(alarms)) for defect, alarms in found.items()}
    assert min(rates.values()) > 0.85, rates


def test_the_misplaced_frame_is_named(storms: list[list[FrameFacts]]) -> None:
    move = examine_order(_in_order(storms[0], (0, 1, 9, 2, 3, 4, 5, 6, 7, 8, 10, 11))).move
    assert move is not None
    assert move.is_sure
    assert (move.frame, move.place) == (2, 9)


def test_turned_fields_give_the_same_result(storms: list[list[FrameFacts]]) -> None:
    for facts in storms[:3]:
        turned = [replace(f, picture=np.rot90(f.picture).copy()) for f in facts]
        assert examine_order(turned).judged == examine_order(facts).judged
        assert _alarm(examine_order(turned)) == _alarm(examine_order(facts))


def test_frames_beside_a_pause_are_not_judged(storms: list[list[FrameFacts]]) -> None:
    facts = storms[0]
    dry = _facts(np.zeros((12, 96, 96), np.float32))
    assert examine_order(facts).judged == 12
    assert examine_order([*facts[:5], dry[5], *facts[6:]]).judged == 9
    numbered = [replace(f, frame=f.frame + 20 * (f.frame > 5)) for f in facts]  # frames left out
    assert examine_order(numbered).judged == 10
    assert examine_order(dry) == FrameOrder(0)


def _parts(zdr: Sequence[float], kdp: Sequence[float], noise: float, seed: int = 0) -> np.ndarray:
    """Make counts and sums of 20 frames, (20, 2, 3, 2), from class means and the noise of a frame's mean."""
    rng = np.random.default_rng(seed)
    means = np.array([zdr, kdp]) + rng.normal(0, noise, (20, 2, 3))
    return np.stack([np.full_like(means, 50), 50 * means], -1)


@pytest.mark.parametrize("offset", [-1.0, 0.0, 0.7])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_zdr_and_kdp_are_told_apart_whatever_the_offset(offset: float, noise: float) -> None:
    zdr, kdp = np.array([0.2, 0.7, 1.2]) + offset, (0.02, 0.12, 0.7)
    assert swapped(_parts(zdr, kdp, noise)) is False
    assert swapped(_parts(kdp, zdr, noise)) is True


def test_noise_is_not_taken_for_a_swap() -> None:
    verdicts = [swapped(_parts((0.2, 0.5, 0.8), (0.02, 0.12, 0.5), 1.5, seed)) for seed in range(40)]
    assert True not in verdicts
    assert None in verdicts


def test_one_frame_of_strong_echo_is_not_judged() -> None:
    parts = _parts((0.2, 0.7, 1.2), (0.02, 0.12, 0.7), 0.03)
    parts[1:, :, 2] = 0
    assert swapped(parts) is None

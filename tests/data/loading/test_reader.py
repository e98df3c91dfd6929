from dataclasses import replace

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.loading.prefetch import prefetch
from polarcast.data.loading.reader import Reader, only_test, open_reader
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.samples import FRAME


def _reader(manifest: Manifest, frames: int) -> Reader:
    return open_reader(only_test(manifest), "test", variables=("zh",), heights_km=(3.0,), frames=frames)


def test_windows_never_cross_an_event(shards: Manifest) -> None:
    reader = _reader(shards, 3)
    assert len(reader) == 8 * 2  # eight events of four frames have two windows of three each
    batch = reader.read(range(len(reader)))
    assert sorted(set(batch.frame.tolist())) == [0, 1]


def test_windows_never_cross_a_missing_frame(shards: Manifest) -> None:
    whole = _reader(shards, 2)
    with_gap = _reader(replace(shards, samples=shards.samples[shards.samples[:, 1 + FRAME] != 2]), 2)
    assert (len(whole), len(with_gap)) == (8 * 3, 8 * 1)
    assert set(with_gap.read(range(8)).frame.tolist()) == {0}


def test_a_window_holds_consecutive_frames(shards: Manifest) -> None:
    singles, windows = _reader(shards, 1), _reader(shards, 4)
    np.testing.assert_array_equal(windows.read([0]).radar[0].numpy(), singles.read(range(4)).radar[:, 0].numpy())


def _with_context(manifest: Manifest, context: int) -> Reader:
    return open_reader(only_test(manifest), "test", variables=("zh",), heights_km=(3.0,), context=context)


def test_context_comes_before_a_window_and_its_first_frame_stands_for_what_is_not_there(shards: Manifest) -> None:
    plain, reader = _reader(shards, 1), _with_context(shards, 2)
    assert len(reader) == len(plain)  # the same frames are estimated
    alone, seen = plain.read(range(8)), reader.read(range(8))
    assert seen.radar.shape[1] == 3
    np.testing.assert_array_equal(seen.frame.numpy(), alone.frame.numpy())
    for window in range(8):
        frame = int(alone.frame[window])
        expected = [window - min(frame, back) for back in (2, 1, 0)]
        np.testing.assert_array_equal(seen.radar[window].numpy(), alone.radar[expected, 0].numpy())


def test_context_never_reaches_over_a_missing_frame(shards: Manifest) -> None:
    holed = replace(shards, samples=shards.samples[shards.samples[:, 1 + FRAME] != 1])
    plain, reader = _reader(holed, 1), _with_context(holed, 2)
    alone, seen = plain.read(range(3)), reader.read(range(3))  # frames 0, 2 and 3 of the first event
    for window, expected in enumerate([[0, 0, 0], [1, 1, 1], [1, 1, 2]]):
        np.testing.assert_array_equal(seen.radar[window].numpy(), alone.radar[expected, 0].numpy())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"variables": ("rho",)}, "variable rho"), ({"heights_km": (5.0,)}, "height 5.0"), ({"frames": 9}, "9 frames")],
)
def test_what_the_shards_do_not_hold_is_refused(shards: Manifest, change: dict[str, object], complaint: str) -> None:
    arguments = {"variables": ("zh",), "heights_km": (1.0,), "frames": 1} | change
    with pytest.raises(BadInput, match=complaint):
        open_reader(shards, "train", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", range(5))
def test_prefetching_keeps_order_and_passes_errors_on(workers: int) -> None:
    assert list(prefetch(lambda i: 2 * i, range(7), workers)) == list(range(0, 14, 2))

    def broken(i: int) -> int:
        if i == 3:
            raise BadInput("broken", "here")
        return i

    seen: list[int] = []
    with pytest.raises(BadInput, match="broken"):
        seen.extend(prefetch(broken, range(7), workers))
    assert seen == [0, 1, 2]


def test_whoever_stops_taking_waits_for_nothing_but_what_is_being_read() -> None:
    begun: list[int] = []
    for _ in prefetch(lambda i: begun.append(i), range(1000), 2):
        break
    assert len(begun) < 10

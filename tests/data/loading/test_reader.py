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


def test_missing_context_is_filled_with_the_first_frame_of_the_window(shards: Manifest) -> None:
    plain, reader = _reader(shards, 1), _with_context(shards, 2)
    assert len(reader) == len(plain)  # the same frames are estimated
    alone, batch = plain.read(range(8)), reader.read(range(8))
    assert batch.radar.shape[1] == 3
    np.testing.assert_array_equal(batch.frame.numpy(), alone.frame.numpy())
    for window in range(8):
        frame = int(alone.frame[window])
        expected = [window - min(frame, back) for back in (2, 1, 0)]
        np.testing.assert_array_equal(batch.radar[window].numpy(), alone.radar[expected, 0].numpy())


def test_context_never_crosses_a_missing_frame(shards: Manifest) -> None:
    with_gap = replace(shards, samples=shards.samples[shards.samples[:, 1 + FRAME] != 1])
    plain, reader = _reader(with_gap, 1), _with_context(with_gap, 2)
    alone, batch = plain.read(range(3)), reader.read(range(3))  # frames 0, 2 and 3 of the first event
    for window, expected in enumerate([[0, 0, 0], [1, 1, 1], [1, 1, 2]]):
        np.testing.assert_array_equal(batch.radar[window].numpy(), alone.radar[expected, 0].numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"variables": ("rho",)}, "variable rho"), ({"heights_km": (5.0,)}, "height 5.0"), ({"frames": 9}, "9 frames")],
)
def test_missing_variables_heights_and_windows_are_rejected(
    shards: Manifest, change: dict[str, object], message: str
) -> None:
    arguments = {"variables": ("zh",), "heights_km": (1.0,), "frames": 1} | change
    with pytest.raises(BadInput, match=message):
        open_reader(shards, "train", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", range(5))
def test_prefetch_keeps_order_and_propagates_errors(workers: int) -> None:
    assert list(prefetch(lambda i: 2 * i, range(7), workers)) == list(range(0, 14, 2))

    def broken(i: int) -> int:
        if i == 3:
            raise BadInput("broken", "here")
        return i

    results: list[int] = []
    with pytest.raises(BadInput, match="broken"):
        results.extend(prefetch(broken, range(7), workers))
    assert results == [0, 1, 2]


def test_stopping_early_cancels_pending_items() -> None:
    started: list[int] = []
    for _ in prefetch(lambda i: started.append(i), range(1000), 2):
        break
    assert len(started) < 10

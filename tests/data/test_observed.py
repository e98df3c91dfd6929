"""Masks of observed pixels in an archive: written with the event or not at all, read by frame, refused if damaged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polarcast.data.archive import open_archive, write_event
from polarcast.data.check.archive import check_archive
from polarcast.data.errors import BadInput
from polarcast.data.explore.describe import describe_event
from polarcast.data.observed import ObservedPixels, level_bytes, pack, read_observed, unpack
from polarcast.data.synth.generate import PRESETS, generate_event, make_site, write_archive
from polarcast.data.synth.observe import HEIGHTS_KM

SHAPE = (9, 7)
HEIGHTS = (1.0, 3.0)


def fields(frames: int) -> tuple[np.ndarray, np.ndarray]:
    radar = np.ones((frames, 1, len(HEIGHTS), *SHAPE), np.float32)
    return radar, radar[:, 0, 0]


def random_masks(frames: int, levels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((frames, levels, *SHAPE)) < 0.5


def write(root: Path, event: int, frames: int, observed: np.ndarray | None, rain: bool = True) -> None:
    radar, rate = fields(frames)
    write_event(
        root, event, radar, rate if rain else None, variables=("zh",), heights_km=HEIGHTS, observed=observed
    )  # fmt: skip


@given(arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))))
def test_packing_loses_nothing_and_pads_to_even_bytes(masks: np.ndarray) -> None:
    y, x = masks.shape[1:]
    packed = pack(masks)
    assert packed.shape == (len(masks), level_bytes(y * x))
    assert level_bytes(y * x) % 2 == 0
    np.testing.assert_array_equal(unpack(packed, (y, x)), masks)


@pytest.mark.parametrize("rain", [True, False])
@pytest.mark.parametrize("stored", [1, 4])
def test_masks_of_an_event_are_read_by_frame(tmp_path: Path, rain: bool, stored: int) -> None:
    observed = random_masks(stored, len(HEIGHTS) + rain)
    write(tmp_path, 3, 4, observed, rain)
    found = open_archive(tmp_path).read_observed(3, SHAPE)
    assert found is not None
    for frame in range(4):
        np.testing.assert_array_equal(found.masks(frame), observed[frame if stored > 1 else 0])


def test_equal_masks_are_stored_once(tmp_path: Path) -> None:
    one, other = random_masks(2, 3)
    write(tmp_path, 0, 5, np.stack([one, other, one, one, other]))
    found = open_archive(tmp_path).read_observed(0, SHAPE)
    assert found is not None
    assert (len(found.bits), found.frames.tolist()) == (2, [0, 1, 0, 0, 1])


def test_an_archive_of_some_heights_reads_their_masks(tmp_path: Path) -> None:
    observed = random_masks(2, 3)
    write(tmp_path, 0, 2, observed)
    found = open_archive(tmp_path).select(heights_km=(3.0,)).read_observed(0, SHAPE)
    assert found is not None
    np.testing.assert_array_equal(found.masks(1), observed[1, [1, 2]])


def test_an_event_without_masks_is_observed_everywhere_also_where_it_had_masks(tmp_path: Path) -> None:
    write(tmp_path, 0, 2, random_masks(2, 3))
    write(tmp_path, 0, 2, None)
    assert open_archive(tmp_path).read_observed(0, SHAPE) is None
    assert not list((tmp_path / "observed").iterdir())


def test_the_fingerprint_changes_with_the_masks(tmp_path: Path) -> None:
    write(tmp_path, 0, 2, None)
    found = {open_archive(tmp_path).fingerprint()}
    ObservedFile(tmp_path).path.parent.mkdir()
    ObservedFile(tmp_path).path.write_bytes(ObservedPixels.of(random_masks(2, 3), HEIGHTS, True).to_bytes())
    assert open_archive(tmp_path).fingerprint() not in found


class ObservedFile:
    """File of the masks of event 0, and ways to damage it."""

    def __init__(self, root: Path) -> None:
        self.path = root / "observed" / "data_dir_000.npz"

    def change(self, **arrays: object) -> None:
        with np.load(self.path) as content:
            np.savez_compressed(self.path, **{**content, **arrays})

    def truncate(self) -> None:
        self.path.write_bytes(self.path.read_bytes()[:100])


DAMAGE: dict[str, Callable[[ObservedFile], None]] = {
    "truncated": ObservedFile.truncate,
    "empty": lambda file: file.path.write_bytes(b"") and None,
    "a frame without a mask": lambda file: file.change(frames=np.array([0, 7])),
    "fractions for numbers": lambda file: file.change(frames=np.array([0.5, 1])),
    "fewer frames than the event": lambda file: file.change(frames=np.array([0, 1])),
    "bits of another length": lambda file: file.change(bits=np.zeros((2, 3, 99), np.uint8)),
    "bits of another type": lambda file: file.change(bits=np.zeros((2, 3, level_bytes(63)), np.int8)),
    "another grid": lambda file: file.change(shape=np.array([7, 9])),
    "a grid of three": lambda file: file.change(shape=np.array([9, 7, 1])),
    "another height": lambda file: file.change(heights_km=np.array([1.0, 5.0])),
    "pickled objects": lambda file: file.change(frames=np.array([None, {}], dtype=object)),
    "no ground": lambda file: file.change(has_ground=np.array(False), bits=np.zeros((2, 2, level_bytes(63)), np.uint8)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_masks_end_in_one_line_that_names_the_file(
    tmp_path: Path, damage: Callable[[ObservedFile], None]
) -> None:
    write(tmp_path, 0, 3, random_masks(3, 3))
    damage(ObservedFile(tmp_path))
    with pytest.raises(BadInput, match=r"data_dir_000\.npz") as error:
        open_archive(tmp_path).read_observed(0, SHAPE)
    assert "\n" not in str(error.value)
    problems = [f for f in check_archive(open_archive(tmp_path)) if not f.ok]
    assert any("data_dir_000.npz" in f.where for f in problems)


def test_there_are_no_masks_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_observed(tmp_path / "absent.npz") is None


def test_masks_that_do_not_fit_the_fields_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 heights and the ground"):
        write(tmp_path, 0, 2, random_masks(2, 2))
    with pytest.raises(ValueError, match="masks of 3 frames"):
        write(tmp_path, 0, 2, random_masks(3, 3))
    with pytest.raises(ValueError, match="for fields of shape"):
        write(tmp_path, 0, 2, random_masks(2, 3)[..., 1:, :])
    with pytest.raises(ValueError, match="must be bool, got float32"):
        write(tmp_path, 0, 2, random_masks(2, 3).astype(np.float32))
    assert not list(tmp_path.iterdir())


def test_a_synthetic_archive_stores_what_the_site_sees(tmp_path: Path) -> None:
    write_archive(tmp_path, 2, size=64, seed=1, preset="tiny", frames=3)
    site = make_site(
        PRESETS["tiny"], 64, np.random.Generator(np.random.Philox(np.random.SeedSequence(1, spawn_key=(0,))))
    )
    archive = open_archive(tmp_path)
    for event in archive.frames:
        found = archive.read_observed(event, (64, 64))
        assert found is not None
        assert (found.heights_km, found.has_ground) == (HEIGHTS_KM, True)
        for frame in archive.frames[event]:
            np.testing.assert_array_equal(found.masks(frame), site.visible[[0, 1, 2, 0]])
            outside = ~found.masks(frame)[:3]
            assert not archive.read_radar(event, frame)[:, outside].any()


def test_a_lost_frame_is_not_observed_and_a_dry_one_is() -> None:
    often = replace(PRESETS["tiny"], lost_frame_share=0.5)
    event = generate_event(often, seed=3, event=0, size=32, frames=12)
    is_lost = ~event.radar.any((1, 2, 3, 4))
    assert 0 < is_lost.sum() < 12
    np.testing.assert_array_equal(event.observed.any((1, 2, 3)), ~is_lost)
    dry = event.observed[:, 3] & (event.rain == 0)
    assert dry[~is_lost].any((1, 2)).all()


def test_the_share_of_the_field_that_the_demo_observes() -> None:
    """The suite `demo` draws storms of this world, seed and size."""
    event = generate_event(PRESETS["tiny"], seed=1, event=0, size=64, frames=1)
    unobserved = 1 - event.observed.mean((0, 2, 3))
    print("not observed at 1, 3, 7 km and on the ground:", ", ".join(f"{share:.1%}" for share in unobserved))
    assert 0.08 < unobserved[3] < 0.12


def test_an_exploration_counts_the_observed_pixels_only(tmp_path: Path) -> None:
    write_archive(tmp_path, 1, size=32, seed=1, preset="tiny", frames=3)
    archive = open_archive(tmp_path)
    found = archive.read_observed(0, (32, 32))
    assert found is not None
    masks = np.stack([found.masks(frame) for frame in range(3)])
    zh = np.stack([archive.read_radar(0, frame)[0, 1] for frame in range(3)])
    rain = np.stack([archive.read_rain(0, frame) for frame in range(3)])
    described = describe_event(archive, 0)
    assert described.summary.wet_fraction == pytest.approx((zh[masks[:, 1]] > 5).mean())
    assert described.rain == pytest.approx(rain[masks[:, 3]].mean(dtype=np.float64), rel=1e-5)

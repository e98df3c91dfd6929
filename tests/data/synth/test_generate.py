"""Synthetic events and archives: determinism, resuming, fill values, and errors."""

import json
from dataclasses import replace

import numpy as np
import pytest

from polarcast.data.archive import complete_events
from polarcast.data.errors import BadInput
from polarcast.data.synth.generate import (
    PRESETS,
    archive_truth,
    draw_length,
    generate_event,
    kdp_rain,
    sample_truth,
    write_archive,
)
from polarcast.data.synth.world import draw_world

WORLD = replace(PRESETS["tiny"], lost_frame_share=0.0)


@pytest.fixture(scope="module")
def event():
    return generate_event(WORLD, seed=3, event=0, size=64, frames=8)


def _files(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_event_has_the_archive_shapes_and_finite_values(event):
    assert event.radar.shape == (8, 3, 3, 64, 64)
    assert event.rain.shape == (8, 64, 64)
    assert event.radar.dtype == event.rain.dtype == np.float32
    assert np.isfinite(event.radar).all()
    assert np.isfinite(event.rain).all()
    assert (event.rain >= 0).all()


def test_all_variables_are_zero_without_echo(event):
    no_echo = event.radar[:, 0] == 0
    assert (event.radar[:, 1][no_echo] == 0).all()
    assert (event.radar[:, 2][no_echo] == 0).all()
    assert event.radar[:, 0][~no_echo].min() >= WORLD.floor_dbz


def test_rain_is_zero_outside_coverage(event):
    y, x = np.mgrid[:64, :64] - 32
    outside = np.hypot(y, x) > 145 / 256 * 64
    assert outside.any()
    assert (event.rain[:, outside] == 0).all()
    assert (event.radar[..., outside] == 0).all()


def test_equal_seeds_give_equal_bytes_and_other_seeds_or_events_differ(event):
    again = generate_event(WORLD, seed=3, event=0, size=64, frames=8)
    assert again.radar.tobytes() == event.radar.tobytes()
    assert again.rain.tobytes() == event.rain.tobytes()
    for seed, number in ((4, 0), (3, 1)):
        assert not np.array_equal(generate_event(WORLD, seed, number, 64, 8).radar, event.radar)


def test_longer_event_starts_with_the_frames_of_the_shorter_one(event):
    short = generate_event(WORLD, seed=3, event=0, size=64, frames=3)
    np.testing.assert_array_equal(short.radar, event.radar[:3])


def test_lost_frame_has_neither_radar_nor_rain():
    lost = generate_event(replace(WORLD, lost_frame_share=1.0), seed=3, event=0, size=64, frames=2)
    assert not lost.radar.any()
    assert not lost.rain.any()


def test_lengths_follow_the_distribution_of_the_real_events():
    lengths = [draw_length(0, e) for e in range(400)]
    assert 20 <= min(lengths) <= 23
    assert 197 <= max(lengths) <= 199
    assert np.median(lengths) == pytest.approx(89, abs=12)


def test_zdr_and_kdp_add_information_about_rain_to_zh():
    """At equal zh, higher zdr means fewer and larger drops, hence less rain; higher kdp means more rain."""
    events = [generate_event(replace(WORLD, noise=(0.2, 0.1, 0.05)), 0, e, 64, 6) for e in range(12)]
    radar, rain = np.concatenate([e.radar for e in events]), np.concatenate([e.rain for e in events])
    chosen = (np.abs(radar[:, 0, 0] - 38) < 1) & (rain > 0)
    zdr, kdp, ln_rain = radar[:, 1, 0][chosen], radar[:, 2, 0][chosen], np.log(rain[chosen])
    assert chosen.sum() > 500
    assert np.corrcoef(zdr, ln_rain)[0, 1] < -0.5
    assert np.corrcoef(kdp, ln_rain)[0, 1] > 0.3


def test_archive_is_the_same_for_one_and_two_workers(tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        write_archive(tmp_path / name, 3, size=32, seed=5, preset="tiny", frames=2, workers=workers)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def test_interrupted_archive_resumes_with_the_missing_events_only(tmp_path):
    progress = []
    options = {"size": 32, "seed": 5, "preset": "tiny", "frames": 2}
    write_archive(tmp_path, 2, **options)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npy")}
    write_archive(tmp_path, 4, **options, on_event=progress.append)
    assert complete_events(tmp_path) == {0, 1, 2, 3}
    assert progress == [3, 4]
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())


def test_kdp_rain_label_is_a_function_of_kdp_at_1_km(tmp_path):
    write_archive(tmp_path, 1, size=32, seed=5, preset="tiny", frames=2, rain="kdp_rain")
    kdp = np.load(tmp_path / "NJU_CPOL_update2308/KDP/1.0km/data_dir_000/frame_001.npy")
    rain = np.load(tmp_path / "NJU_CPOL_kdpRain/data_dir_000/frame_001.npy")
    np.testing.assert_allclose(rain, 57.1 * np.maximum(kdp, 0) ** 0.785, rtol=1e-5)
    assert kdp_rain(np.zeros((1, 3, 3, 4, 4), np.float32)).shape == (1, 4, 4)


def test_archive_json_holds_the_options(tmp_path):
    write_archive(tmp_path, 1, size=32, seed=5, preset="tiny", frames=1)
    note = json.loads((tmp_path / "archive.json").read_text())
    assert note["preset"] == "tiny"
    assert (note["seed"], note["size"], note["frames"], note["rain"]) == (5, 32, 1, "true_R")
    assert (note["time_step_min"], note["spacing_km"]) == (6.0, 1.0)


def test_a_varied_world_draws_parameters_within_limits_per_event():
    world = PRESETS["varied"]
    drawn = [draw_world(world, np.random.default_rng(event)) for event in range(50)]
    for name, least, greatest in world.varied:
        values = [getattr(one, name) for one in drawn]
        assert least <= min(values) < max(values) <= greatest
        assert len(set(values)) == len(values)
    assert all(
        replace(one, **{name: getattr(world, name) for name, *_ in world.varied}) == replace(world, varied=())
        for one in drawn
    )


def _parameter(world, name):
    value = world
    for part in name.split("."):
        value = value[int(part)] if isinstance(value, tuple) else getattr(value, part)
    return value


def test_every_event_of_any_radar_has_its_own_drops_and_errors_within_limits():
    world = PRESETS["any-radar"]
    drawn = [draw_world(world, np.random.default_rng(event)) for event in range(60)]
    for name, least, greatest in (*world.varied, *world.varied_evenly):
        values = [_parameter(one, name) for one in drawn]
        assert least <= min(values) < max(values) <= greatest, name
    assert {type(one.kdp_smoothing_px) for one in drawn} == {int}
    assert {one.kdp_smoothing_px for one in drawn} == {1, 2, 3, 4, 5}
    assert world.varies_radar
    assert not PRESETS["varied"].varies_radar
    # Drawn in addition, so that the climate of an event is that of the preset `varied`.
    climate = [name for name, *_ in PRESETS["varied"].varied]
    for event, one in enumerate(drawn):
        other = draw_world(PRESETS["varied"], np.random.default_rng(event))
        assert all(getattr(one, name) == getattr(other, name) for name in climate)


def test_the_radar_of_an_event_of_any_radar_is_miscalibrated_as_drawn():
    """Where noise averages out, ZDR differs from that of a radar without error by the bias that was drawn."""
    world = replace(PRESETS["any-radar"], varied_evenly=(("zdr_bias_db", 0.4, 0.4),), clutter_points=0.0)
    exact = replace(world, varied_evenly=(("zdr_bias_db", 0.0, 0.0),))
    biased, true = (generate_event(one, 3, 0, 64, 2).radar for one in (world, exact))
    both = (biased[:, 0] != 0) & (true[:, 0] != 0)
    np.testing.assert_allclose((biased[:, 1] - true[:, 1])[both], 0.4, atol=1e-4)
    assert both.any()


def test_a_world_without_varied_parameters_is_unchanged():
    assert draw_world(WORLD, np.random.default_rng(0)) == WORLD


def test_truth_and_radar_of_a_varied_event_have_the_same_climate():
    # If rain falls instantly and coverage is complete, truth at 3 km equals the label at 1 km.
    world = replace(
        PRESETS["varied"], fall_memory=0.0, coverage_share=1.0, cone_slope=0.0, blocked_sectors=0, lost_frame_share=0
    )
    rain = generate_event(world, 5, 0, 64, 1).rain
    np.testing.assert_array_equal(sample_truth(world, 5, 0, 64, 1, every=1).rain, rain[rain >= 0.1])


def test_a_folder_with_another_archive_is_rejected(tmp_path):
    write_archive(tmp_path, 1, size=32, seed=5, preset="tiny", frames=1)
    with pytest.raises(BadInput, match="seed is 5, requested 6"):
        write_archive(tmp_path, 1, size=32, seed=6, preset="tiny", frames=1)


@pytest.mark.parametrize("note", ["{", "[]"])
def test_damaged_description_is_rejected(tmp_path, note):
    (tmp_path / "archive.json").write_text(note)
    with pytest.raises(BadInput, match="make the archive again"):
        write_archive(tmp_path, 1, size=32, seed=0, preset="tiny", frames=1)


def test_truth_of_an_archive_is_regenerated_from_its_description(tmp_path):
    write_archive(tmp_path, 2, size=64, seed=5, preset="tiny", frames=2)
    truth = archive_truth(tmp_path, frames=1)
    expected = sample_truth(PRESETS["tiny"], 5, 0, 64, 1)
    np.testing.assert_array_equal(truth.rain[: len(expected.rain)], expected.rain)
    assert len(truth.rain) > len(expected.rain)
    (tmp_path / "archive.json").write_text('{"generator": "someone else"}')
    assert archive_truth(tmp_path) is None


@pytest.mark.parametrize(
    "wrong",
    [{"preset": "monsun"}, {"rain": "gauge"}, {"size": 8}, {"seed": -1}, {"workers": 0}, {"frames": 0}],
    ids=lambda w: next(iter(w)),
)
def test_error_for_an_invalid_option_names_its_value(tmp_path, wrong):
    options = {"size": 32, "seed": 0, "preset": "tiny", "frames": 1} | wrong
    with pytest.raises(BadInput, match=str(next(iter(wrong.values())))):
        write_archive(tmp_path / "out", 1, **options)
    assert not (tmp_path / "out").exists()

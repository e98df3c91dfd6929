"""Tests of the checks: injected defects are found and located, and valid archives pass."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import VARIABLES, Archive, open_archive, write_event
from polarcast.data.check.archive import check_archive
from polarcast.data.check.findings import Finding
from polarcast.data.check.shards import check_shards
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import PRESETS, generate_event, kdp_rain

EVENT, FRAME = 1, 6
Radar, Rain = np.ndarray, np.ndarray
ZH, ZDR, KDP = range(3)


@pytest.fixture(scope="module")
def storms() -> list[tuple[Radar, Rain]]:
    """Generate three valid events of 12 frames, 96 × 96."""
    made = [generate_event(PRESETS["meiyu"], 0, event, 96, 12) for event in range(3)]
    return [(m.radar, m.rain) for m in made]


def _write(root: Path, storms: list[tuple[Radar, Rain]]) -> Archive:
    for event, (radar, rain) in enumerate(storms):
        write_event(root, event, radar, rain)
    return open_archive(root)


def _injected(storms: list[tuple[Radar, Rain]], inject: Callable[[Radar, Rain], None]) -> list[tuple[Radar, Rain]]:
    """Return the storms with a defect in event 1."""
    copies = list(storms)
    radar, rain = (field.copy() for field in storms[EVENT])
    inject(radar, rain)
    copies[EVENT] = (radar, rain)
    return copies


def _failures(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.severity == "failure"]


def _swap(a: int, b: int) -> Callable[[Radar, Rain], None]:
    def inject(radar: Radar, rain: Rain) -> None:
        radar[:, [a, b]] = radar[:, [b, a]]

    return inject


def _set(index: tuple[object, ...], value: object) -> Callable[[Radar, Rain], None]:
    def inject(radar: Radar, rain: Rain) -> None:
        radar[index] = value

    return inject


def _turn(variable: int, height: int, turn: Callable[[np.ndarray], np.ndarray]) -> Callable[[Radar, Rain], None]:
    def inject(radar: Radar, rain: Rain) -> None:
        radar[:, variable, height] = turn(radar[:, variable, height])

    return inject


def _scale_rain(factor: float) -> Callable[[Radar, Rain], None]:
    def inject(radar: Radar, rain: Rain) -> None:
        rain *= factor

    return inject


def _flip_rain(radar: Radar, rain: Rain) -> None:
    rain[:] = rain[:, ::-1].copy()


def _exchange(radar: Radar, rain: Rain) -> None:
    for fields in (radar, rain):
        fields[[FRAME, FRAME + 1]] = fields[[FRAME + 1, FRAME]]


def _move(radar: Radar, rain: Rain) -> None:
    order = [0, FRAME, *(f for f in range(1, len(radar)) if f != FRAME)]
    for fields in (radar, rain):
        fields[:] = fields[order].copy()


def _freeze(radar: Radar, rain: Rain) -> None:
    radar[FRAME] = radar[FRAME - 1]


DEFECTS: dict[str, tuple[Callable[[Radar, Rain], None], str, str]] = {
    "zh and zdr swapped": (_swap(ZH, ZDR), "event 001 zdr", "zh and zdr are swapped"),
    "zh and kdp swapped": (_swap(ZH, KDP), "event 001 kdp", "zh and kdp are swapped"),
    "zdr and kdp swapped": (_swap(ZDR, KDP), "event 001 kdp", "the two are swapped"),
    "rain in mm per 5 minutes": (_scale_rain(1 / 12), "event 001 rain", "not in mm/h"),
    "rain twelvefold": (_scale_rain(12), "event 001 rain", "not in mm/h"),
    "zdr upside down": (_turn(ZDR, 1, lambda f: f[:, ::-1].copy()), "event 001 zdr at 3 km", "flipped up–down"),
    "kdp mirrored": (_turn(KDP, 0, lambda f: f[:, :, ::-1].copy()), "event 001 kdp at 1 km", "flipped left–right"),
    "zdr transposed": (
        _turn(ZDR, 0, lambda f: f.swapaxes(1, 2).copy()), "event 001 zdr at 1 km", "it is transposed against zh",
    ),
    "zh upside down at one level": (_turn(ZH, 1, lambda f: f[:, ::-1].copy()), "event 001 zh at 3 km", "flipped"),
    "rain upside down": (_flip_rain, "event 001 rain", "flipped up–down"),
    "neighbours exchanged": (_exchange, "event 001 frame 00", "out of order"),
    "a frame moved": (_move, "event 001 frame 001", "out of order"),
    "a constant field": (_set((FRAME, ZH, 0), 7.0), "event 001 frame 006 zh at 1 km", "7 everywhere"),
    "a frozen frame": (_freeze, "event 001 frame 006", "the same as frame 005"),
    "a value beyond any radar": (_set((FRAME, ZH, 0, 3, 4), 140.0), "event 001 frame 006 zh at 1 km", "140"),
    "raw counts for ZDR": (
        _set((slice(None), ZDR, 0), np.float32(25.0)), "event 001 zdr at 1 km", "check its units",
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_an_injected_defect_is_found_and_located(storms: list[tuple[Radar, Rain]], defect: str, tmp_path: Path) -> None:
    inject, where, what = DEFECTS[defect]
    failures = _failures(check_archive(_write(tmp_path, _injected(storms, inject))))
    assert any(f.where.startswith(where) and what in f.found for f in failures), failures
    assert all("event 001" in f.where or "data_dir_001" in f.where for f in failures), failures


def test_all_bad_files_are_reported_and_the_rest_is_checked(storms: list[tuple[Radar, Rain]], tmp_path: Path) -> None:
    archive = _write(tmp_path, _injected(storms, _scale_rain(1 / 12)))
    truncated = archive.radar_file("zdr", 3.0, 0, 2)
    truncated.write_bytes(truncated.read_bytes()[:-100])
    np.save(archive.radar_file("kdp", 1.0, 0, 3), np.zeros((95, 96), np.float32))
    invalid = np.load(archive.radar_file("zh", 1.0, 0, 4))
    invalid[10:60] = np.nan
    np.save(archive.radar_file("zh", 1.0, 0, 4), invalid)
    archive.rain_file(2, 5).rename(tmp_path / "lost")
    found = {f.where: f.found for f in _failures(check_archive(archive))}
    assert "not a readable npy file" in found[str(truncated)]
    assert "shape (95, 96)" in found[str(archive.radar_file("kdp", 1.0, 0, 3))]
    assert "52.1% of the values are not finite" in found[str(archive.radar_file("zh", 1.0, 0, 4))]
    assert "not in mm/h" in found["event 001 rain"]
    # The archive was opened before the rain file was removed.
    assert "no such file" in found[str(archive.rain_file(2, 5))]


def test_frames_without_rain_are_reported(storms: list[tuple[Radar, Rain]], tmp_path: Path) -> None:
    archive = _write(tmp_path, storms)
    archive.rain_file(2, 11).unlink()
    found = _failures(check_archive(open_archive(tmp_path)))
    assert {Path(f.where).name for f in found} == {"frame_011.npy"}
    assert len(found) == 9


@pytest.mark.parametrize("frames", [slice(None), slice(3, 7)])
def test_frames_in_two_events_are_found(storms: list[tuple[Radar, Rain]], frames: slice, tmp_path: Path) -> None:
    copied = tuple(field[frames] for field in storms[0])
    found = _failures(check_archive(_write(tmp_path, [*storms, copied])))
    assert [f.where for f in found] == ["event 003"]
    assert "also in event 000, bit for bit" in found[0].found


def test_the_same_frames_in_two_splits_are_a_leak(storms: list[tuple[Radar, Rain]], tmp_path: Path) -> None:
    manifest = write_shards(_write(tmp_path / "a", [*storms, storms[0]]), tmp_path / "s", split="all-test")
    leaky = replace(manifest, splits={"train": (0, 1), "validation": (2,), "test": (3,)})
    statistics, *found = _failures(check_shards(leaky))
    assert "differs from the training events" in statistics.found
    assert len(found) == 1
    assert "a leak between train and test" in found[0].found


def test_shards_are_checked_for_plausibility(storms: list[tuple[Radar, Rain]], tmp_path: Path) -> None:
    injected = _write(tmp_path / "a", _injected(storms, _swap(ZDR, KDP)))
    found = _failures(check_shards(write_shards(injected, tmp_path / "s", split="all-test")))
    assert [f.where for f in found] == ["event 001 kdp"]


def test_a_variable_that_is_all_zero_is_a_warning_with_a_hint(storms: list[tuple[Radar, Rain]], tmp_path: Path) -> None:
    findings = check_archive(_write(tmp_path, _injected(storms, _set((FRAME, KDP), 0.0))))
    warned = [f for f in findings if f.severity == "warning"]
    assert not _failures(findings)
    assert {f.where for f in warned} == {f"event 001 frame 006 kdp at {z} km" for z in (1, 3, 7)}
    assert all("--clean" in f.found for f in warned)


@cache
def _storms_of(preset: str) -> list[tuple[Radar, Rain]]:
    made = (generate_event(PRESETS[preset], 11, event, 64, 12) for event in range(4))
    return [(m.radar, m.rain) for m in made]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("rain", ["true_R", "kdp_rain"])
def test_valid_storms_pass(preset: str, rain: str, tmp_path: Path) -> None:
    made = _storms_of(preset)
    archive = _write(tmp_path, [(radar, kdp_rain(radar) if rain == "kdp_rain" else true) for radar, true in made])
    assert not _failures(check_archive(archive))


def test_reflectivity_alone_without_rain_passes(storms: list[tuple[Radar, Rain]], tmp_path: Path) -> None:
    write_event(tmp_path, 0, storms[0][0][:, :1, :1], None, variables=("zh",), heights_km=(1.0,))
    findings = {f.where: f for f in check_archive(open_archive(tmp_path))}
    assert all(f.ok for f in findings.values())
    assert findings["rain units"].found == "not judged in 1 of 1 events: no rain grid"


def test_checks_with_too_little_echo_are_reported_as_not_judged(tmp_path: Path) -> None:
    write_event(tmp_path, 0, np.zeros((5, 3, 3, 32, 32), np.float32), np.zeros((5, 32, 32), np.float32))
    findings = {f.where: f for f in check_archive(open_archive(tmp_path))}
    assert all(f.ok for f in findings.values())
    for kind in ("variables", "rain units"):
        assert (findings[kind].severity, findings[kind].found[:27]) == ("not judged", "not judged in 1 of 1 events")
    assert findings["order"].severity == "not judged"
    assert "5 of 5 frames: too little echo" in findings["order"].found


def test_findings_do_not_depend_on_the_number_of_workers(storms: list[tuple[Radar, Rain]], tmp_path: Path) -> None:
    archive = _write(tmp_path, _injected(storms, _move))
    assert check_archive(archive, workers=2) == check_archive(archive, workers=1)


def test_many_problems_of_one_kind_are_counted(storms: list[tuple[Radar, Rain]], tmp_path: Path) -> None:
    findings = check_archive(
        _write(tmp_path, _injected(storms, _set((slice(None), slice(None), slice(None), 0, 0), 150)))
    )
    assert any("more of this kind" in f.found for f in findings)
    assert len(findings) < 40


@pytest.mark.real_data
def test_a_real_event_passes(real_event: Path) -> None:
    assert all(f.severity == "ok" for f in check_archive(open_archive(real_event)))


@pytest.fixture(scope="module", params=[1, 3, 4])
def published(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Real event as published: widespread (1), sparse (3) or nearly empty (4); no rain grid."""
    root = tmp_path_factory.mktemp("published")
    fields = {z: np.load(shared_data / f"njucpol_events/event{request.param:03d}_{z:.1f}km.npz") for z in (1, 3, 7)}
    radar = np.stack([[fields[z][name] for z in fields] for name in ("dBZ", "ZDR", "KDP")])
    write_event(root, request.param, radar.transpose(2, 0, 1, 3, 4), None)
    return open_archive(root)


@pytest.mark.real_data
def test_events_as_published_pass(published: Archive) -> None:
    findings = check_archive(published)
    assert all(f.severity in ("ok", "not judged") for f in findings), findings
    assert {f.where for f in findings if f.severity == "ok"} >= {"variables", "order", "orientation"}


@pytest.mark.real_data
@pytest.mark.parametrize(("swap", "what"), [((ZDR, KDP), "the two are swapped"), ((ZH, ZDR), "zh and zdr are swapped")])
def test_swapped_variables_in_events_as_published_are_never_ok(
    published: Archive, swap: tuple[int, int], what: str, tmp_path: Path
) -> None:
    (event,) = published.frames
    radar = np.stack([published.read_radar(event, frame) for frame in published.frames[event]])
    radar[:, list(swap)] = radar[:, list(swap)[::-1]]
    write_event(tmp_path, event, radar, None)
    findings = check_archive(open_archive(tmp_path))
    is_too_noisy = swap == (ZDR, KDP) and event == 3  # the two contrasts contradict each other
    assert any(what in f.found for f in _failures(findings)) != is_too_noisy, findings
    assert not any(f.where == "variables" and f.severity == "ok" for f in findings)


@pytest.mark.real_data
@pytest.mark.parametrize("defect", [d for d in DEFECTS if "one level" not in d])
def test_defects_in_a_real_event_are_found(real_event: Path, defect: str, tmp_path: Path) -> None:
    archive = open_archive(real_event)
    radar = np.stack([archive.read_radar(1, f) for f in range(12)])
    rain = np.stack([archive.read_rain(1, f) for f in range(12)])
    inject, where, what = DEFECTS[defect]
    inject(radar, rain)
    write_event(tmp_path, EVENT, radar, rain)
    failures = _failures(check_archive(open_archive(tmp_path)))
    assert any(f.where.startswith(where) and what in f.found for f in failures), failures
    assert open_archive(tmp_path).variables == VARIABLES


def test_a_bad_event_does_not_affect_other_events(storms: list[tuple[Radar, Rain]], tmp_path: Path) -> None:
    archive = _write(tmp_path, storms)
    shutil.rmtree(archive.radar_file("zh", 1.0, 0, 0).parent)
    findings = check_archive(archive)
    assert sum("data_dir_000" in f.where for f in _failures(findings)) == 12
    assert any(f.where == "files" and "24 frames" in f.found for f in findings) is False
    assert {f.where for f in findings if f.ok} >= {"ranges", "order", "duplicates"}

"""Robustness of a suite: where a gain is gone, known scores under known errors, resumed work, one-line errors."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from polarcast.data.archive import write_event
from polarcast.data.errors import BadInput
from polarcast.hpc.bench.cells import SuiteFolder
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.robustness.crossing import crossing
from polarcast.hpc.bench.robustness.render import lines_of, markdown, notes_of
from polarcast.hpc.bench.robustness.result import (
    FILE,
    Number,
    Point,
    RobustCurve,
    RobustModel,
    Robustness,
    RobustScore,
    read_robustness,
)
from polarcast.hpc.bench.robustness.run import robustness_of
from polarcast.hpc.bench.robustness.spec import USUAL, RobustnessSpec, parse_series, series_of
from polarcast.hpc.evaluation import degraded
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support import warm
from tests.support.small_suite import run_small_suite

Array = npt.NDArray[np.float64]
NAN = float("nan")
POLARCAST = [sys.executable, "-m", "polarcast.hpc.cli"]


def test_a_gain_is_gone_where_it_crosses_zero_and_its_interval_where_the_limits_do() -> None:
    levels = [0.0, 0.2, 0.4, 0.6]
    found = crossing(levels, [0.3, 0.2, 0.1, -0.1], [0.2, 0.1, -0.1, -0.3], [0.4, 0.3, 0.3, 0.1])
    assert found.level == pytest.approx(0.5)
    assert found.low == pytest.approx(0.3)
    assert found.high is None
    assert found.text("dB") == "0.5 dB [0.3, beyond]"


def test_nothing_is_extrapolated_and_the_first_crossing_counts() -> None:
    never = crossing([0.0, 0.5], [0.3, 0.1], [0.2, 0.05], [0.4, 0.2])
    assert (never.level, never.low, never.high) == (None, None, None)
    assert never.text("dB") == "> 0.5 dB"
    assert crossing([0.0, -0.5], [0.3, 0.1], [0.2, -0.2], [0.4, 0.2]).text("dB") == "< -0.5 dB [-0.25, beyond]"
    assert crossing([0, 1, 2, 3], [1, -1, 1, 1], [NAN] * 4, [NAN] * 4).level == pytest.approx(0.5)
    assert crossing([0.0, 1.0], [-0.1, -0.2], [-0.2, -0.3], [0.1, -0.1]).text() == "0 [0, 0.5]"


def test_nothing_is_said_beyond_an_undefined_gain() -> None:
    found = crossing([0, 1, 2, 3], [0.3, 0.1, NAN, -1], [0.2, -0.2, NAN, -2], [0.4, 0.3, NAN, 0])
    assert (found.level, found.text("dB")) == (None, "> 1 dB [0.5, beyond]")
    unknown = crossing([0, 1], [NAN, NAN], [NAN] * 2, [NAN] * 2)
    points = tuple(Point(level, Number(0.5), Number(0.5), Number(None)) for level in (0.0, 1.0))
    curve = RobustCurve("unet", "csi", "noise", 0.0, points, (unknown,))
    models, scores = (RobustModel("unet", "U-Net", 3, False),), (RobustScore("csi", "CSI", "1", False),)
    assert lines_of(Robustness("s", "qpe", 60, 60, models, scores, {"noise": ("noise", "×")}, (curve,)))[0][-1] == "–"


def test_levels_of_a_command_line() -> None:
    found = parse_series(["zdr_bias=-0.5:0.5:0.25", "noise=2,4", "lost=zdr", "lost=kdp", "noise=2,zdr_bias=0.3"])
    assert found["zdr_bias"] == [-0.5, -0.25, 0, 0.25, 0.5]
    assert found["lost"] == ["zdr", "kdp"]
    assert found["combined"] == ["zdr_bias=0.3,noise=2"]
    series = {one.name: one for one in series_of(found)}
    assert series["noise"].levels == (1, 2, 4)  # with the level that changes nothing
    assert series["noise"].neutral == 0
    assert series["lost"].levels == ("none", "zdr", "kdp")
    assert series["lost"].neutral is None
    assert {one.name for one in series_of(USUAL)} == set(USUAL)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["zdr_bias=0:9:1"], "out of range"),
        (["zdr_bias=0:1"], "not a range"),
        (["zdr_bias=0:1:-1"], "no levels"),
        (["zdr_bias"], "has no level"),
        (["rain=1"], "choose from"),
        (["lost=zdr,zdr"], "appears twice"),
        (["zdr_bias=0.3", "zdr_bias=0.30"], "0.3 appears twice"),
    ],
)
def test_wrong_levels_are_one_line(texts: Sequence[str], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        series_of(parse_series(texts))
    assert "\n" not in str(caught.value)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: figures take most of the time."""
    monkeypatch.setattr("polarcast.hpc.bench.figures.robustness.draw_robustness", lambda *_: [])


def quiet() -> ProgressBoard:
    console = stderr()
    console.quiet = True
    return ProgressBoard(console)


def examine(
    folder: Path, levels: Mapping[str, Sequence[Any]], archive: Path | None = None, **chosen: Any
) -> Robustness:
    suite = saved_suite(folder)
    spec = RobustnessSpec(perturbations=dict(levels), **chosen)  # type: ignore[arg-type]
    return robustness_of(suite, SuiteFolder(folder, suite.data), spec, quiet(), archive=archive)


def dual_law(zh: Array, zdr: Array) -> Array:
    """R = 0.0058 Z^0.91 10^(−0.209 ZDR), Bringi & Chandrasekar (2001)."""
    return np.asarray(0.0058 * 10 ** (0.091 * zh - 0.209 * zdr))


def radar_law(zh: Array) -> Array:
    """Z = 200 R^1.6."""
    return np.asarray((10 ** (zh / 10) / 200) ** (1 / 1.6))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Array, Array, Array]:
    """Suite of published laws on fields whose rain is the dual-pol law times noise; zh, zdr, rain of its tests."""
    root, rng = tmp_path_factory.mktemp("planted"), np.random.default_rng(0)
    fields = []
    for event in range(20):
        zh, zdr = rng.uniform(25, 45, (1, 3, 16, 16)), rng.uniform(1.3, 2.7, (1, 3, 16, 16))
        zh, zdr = zh.astype(np.float16).astype(float), zdr.astype(np.float16).astype(float)
        rain = dual_law(zh, zdr)[:, 0] * np.exp(rng.normal(0, 0.1, (1, 16, 16)))
        radar = np.stack([zh, zdr], 1).astype(np.float32)
        write_event(root / "archive", event, radar, rain.astype(np.float32), variables=("zh", "zdr"))
        fields.append((zh[0, 0], zdr[0, 0], rain[0].astype(np.float16).astype(float)))
    text = f"""
name: planted
data: {{archive: {root / "archive"}, split: 0.4/0.1/0.5}}
models:
  published: {{label: published, set: {{model: {{name: power_law, coefficients: published}}}}}}
tables:
  main: {{title: Main, metrics: [rmse]}}
"""
    folder = run_small_suite(root, text)
    from polarcast.data.shards.manifest import read_manifest

    tests = read_manifest(SuiteFolder(folder, saved_suite(folder).data).shards).splits["test"]
    zh, zdr, rain = (np.stack([fields[event][n] for event in tests]) for n in range(3))
    return folder, zh, zdr, rain


def rmse(forecast: Array, rain: Array) -> float:
    return float(np.sqrt(np.square(forecast - rain).mean()))


@pytest.mark.usefixtures("without_figures")
def test_a_zdr_bias_multiplies_rain_and_the_gain_is_gone_where_the_quadratic_says(
    planted: tuple[Path, Array, Array, Array],
) -> None:
    folder, zh, zdr, rain = planted
    levels = [round(0.1 * n, 1) for n in range(-10, 11)]
    found = examine(folder, {"zdr_bias": levels, "zh_bias": [-1, 1]}, scores=["rmse"])
    law, error = dual_law(zh, zdr), radar_law(zh) - rain
    curve = found.curve("published", "rmse", "zdr_bias")
    for point in curve.points:
        assert point.radar.value == pytest.approx(rmse(radar_law(zh), rain), rel=1e-4)
        assert point.dualpol.value == pytest.approx(rmse(10 ** (-0.209 * float(point.level)) * law, rain), rel=1e-3)
        assert point.gain.value == pytest.approx(1 - point.dualpol.value / point.radar.value, rel=1e-6)  # type: ignore[operator]
        assert point.gain.low < point.gain.value < point.gain.high  # type: ignore[operator]
    # f² ΣL² − 2 f ΣLR + ΣR² = ΣE² for the factor f of the rain at which both arms have the same error.
    a, b, c = (law**2).sum(), (law * rain).sum(), (rain**2).sum() - (error**2).sum()
    root = np.sqrt(b**2 - a * c)
    wanted = {"above": -np.log10((b - root) / a) / 0.209, "below": -np.log10((b + root) / a) / 0.209}
    above, below = curve.gone
    assert above.level == pytest.approx(wanted["above"], abs=5e-3)
    assert below.level == pytest.approx(wanted["below"], abs=5e-3)
    for side in curve.gone:
        assert abs(side.low or 0) < abs(side.level or 0) < abs(side.high or NAN)
    by_level = {point.level: point for point in found.curve("published", "rmse", "zh_bias").points}
    assert by_level[1.0].dualpol.value == pytest.approx(rmse(10**0.091 * law, rain), rel=1e-3)
    assert by_level[1.0].radar.value == pytest.approx(rmse(10 ** (0.1 / 1.6) * radar_law(zh), rain), rel=1e-3)


@pytest.mark.usefixtures("without_figures")
def test_complete_records_are_not_computed_again(
    planted: tuple[Path, Array, Array, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(planted[0], folder)
    scored: list[str] = []
    score: Callable[..., Any] = degraded.score

    def counted(*given: Any, **named: Any) -> Any:
        scored.append("one")
        return score(*given, **named)

    monkeypatch.setattr(degraded, "score", counted)
    first = examine(folder, {"zdr_bias": [0.35], "noise": [2]}, scores=["rmse"])
    assert len(scored) == 3  # ZDR bias changes the dual-pol arm only; the runs have the records of no perturbation
    again = examine(folder, {"zdr_bias": [0.35], "noise": [2]}, scores=["rmse"])
    assert len(scored) == 3
    assert (again.curves, again.labels) == (first.curves, first.labels)
    examine(folder, {"zdr_bias": [0.35, 0.45], "noise": [2]}, scores=["rmse"])
    assert len(scored) == 4
    examine(folder, {"noise": [2]}, scores=["rmse", "csi@threshold=10"])
    assert len(scored) == 6  # another family of sums
    examine(folder, {"noise": [2]}, scores=["rmse"])
    assert len(scored) == 6
    monkeypatch.setattr(degraded.fields, "VERSION", 2)
    examine(folder, {"noise": [2]}, scores=["rmse"])
    assert len(scored) == 8
    damaged = next(folder.glob("cells/*dualpol*/robustness/noise=2/scores.parquet"))
    damaged.write_bytes(b"PAR1")
    examine(folder, {"noise": [2]}, scores=["rmse"])
    assert len(scored) == 9


@pytest.mark.usefixtures("without_figures")
def test_another_archive_has_records_of_its_own(planted: tuple[Path, Array, Array, Array], tmp_path: Path) -> None:
    folder, levels = planted[0], {"zdr_bias": [-0.5, 0.5]}
    own = examine(folder, levels, scores=["rmse"])
    rng = np.random.default_rng(1)
    zh, zdr = rng.uniform(25, 45, (3, 1, 3, 16, 16)), rng.uniform(1.3, 2.7, (3, 1, 3, 16, 16))
    zh, zdr = zh.astype(np.float16).astype(float), zdr.astype(np.float16).astype(float)
    for event in range(3):
        fields = np.stack([zh[event], zdr[event]], 1).astype(np.float32)
        rain = dual_law(zh, zdr)[event, :, 0].astype(np.float32)
        write_event(tmp_path / "real", event, fields, rain, variables=("zh", "zdr"))
    other = examine(folder, levels, archive=tmp_path / "real", scores=["rmse"])
    assert (other.suite, other.events) == ("planted on real", 3)
    rain = dual_law(zh, zdr)[:, :, 0]
    for point in other.curve("published", "rmse", "zdr_bias").points:
        assert point.radar.value == pytest.approx(rmse(radar_law(zh[:, :, 0]), rain), rel=1e-3)
        expected = rmse(10 ** (-0.209 * float(point.level)) * rain, rain)
        assert point.dualpol.value == pytest.approx(expected, rel=2e-3, abs=1e-2)
    assert (folder / "on/real/robustness" / FILE).is_file()
    assert examine(folder, levels, scores=["rmse"]).curves == own.curves
    with pytest.raises(BadInput, match="shares an event with the data of the suite"):
        examine(folder, levels, archive=folder.parent / "archive")
    with pytest.raises(BadInput, match="are shards"):
        examine(folder, levels, archive=SuiteFolder(folder, saved_suite(folder).data).shards)


def test_result_tables_and_figures(planted: tuple[Path, Array, Array, Array]) -> None:
    folder = planted[0]
    levels = {"zdr_bias": [0.5, -0.5], "lost": ["zdr", "kdp"], "kdp_smoothing": [5], "lost_height": [1, 7],
              "combined": ["zdr_bias=0.3,noise=2"]}  # fmt: skip
    found = examine(folder, levels, scores=["rmse", "csi@threshold=10"])
    out = folder / "robustness"
    assert read_robustness(out) == found
    assert json.loads((out / FILE).read_text())["format"] == "polarcast-robustness/1"
    assert found.left_out == ("variable lost: KDP is not read", "KDP smoothed in range: KDP is not read")
    text = (out / "robustness.md").read_text()
    assert text == markdown(found, [out / "robustness_rmse.png", out / "robustness_csi_threshold_10.png"])
    assert "Left out: variable lost: KDP is not read" in text
    assert {file.name for file in out.glob("*.png")} == {"robustness_rmse.png", "robustness_csi_threshold_10.png"}
    rows = (out / "robustness.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * (3 + 2 + 3 + 2)
    assert list(dict.fromkeys(line[1] for line in lines_of(found))) == [
        "ZDR bias", "variable lost: zdr", "height lost: 1 km", "height lost: 7 km",
        "several at once: zdr_bias=0.3,noise=2",
    ]  # fmt: skip
    # Only the lowest height is used: without it neither arm has rain, and without another nothing changes.
    lost = {point.level: point for point in found.curve("published", "rmse", "lost_height").points}
    assert lost[1.0].gain.value == 0
    assert lost[7.0].dualpol == lost["none"].dualpol
    examine(folder, {"noise": [2]}, scores=["rmse"])
    assert {file.name for file in out.glob("*.png")} == {"robustness_rmse.png"}


@pytest.mark.parametrize(
    ("levels", "chosen", "message"),
    [
        ({"noise": [20]}, {}, "out of range"),
        ({"noise": [2]}, {"models": ["unet"]}, "'unet' is not in this suite"),
        ({"noise": [2]}, {"scores": ["nb"]}, "best value inside its range"),
        ({"noise": [2]}, {"scores": ["csi@threshold=11"]}, "no coordinate threshold=11"),
        ({"noise": [2]}, {"scores": ["csi@threshold=*"]}, "selects many scores"),
        ({"kdp_smoothing": [5]}, {}, "KDP is not read"),
        ({"noise": []}, {}, "expected a list"),
        ({"noise": "2"}, {}, "expected a list"),
        ({"zdr_bias": [0]}, {}, "no level changes anything"),
    ],
)
@pytest.mark.usefixtures("without_figures")
def test_what_does_not_fit_the_suite_is_one_line(
    planted: tuple[Path, Array, Array, Array], levels: dict[str, Any], chosen: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        examine(planted[0], levels, **chosen)
    assert "\n" not in str(caught.value)


NETS = """
name: nets
data: {synth: {events: 6, frames: 2, size: 32, preset: tiny, seed: 5}, split: 0.34/0.16/0.5}
models:
  unet:
    label: U-Net
    set:
      match_params: false
      model: {widths: [4, 8], first_guess: power_law}
      train: {steps: 2, validate_every: 2, warmup_steps: 1, global_batch: 2, micro_batch: 2, threads: 1}
      data: {degrade: ["zdr_bias=0.5", "noise=2"]}
  diffusion:
    label: diffusion
    base: unet
    set:
      match_params: false
      model: {name: residual_diffusion, widths: [4, 8], steps: 1}
      train: {steps: 2, validate_every: 2, validate_windows: 2, global_batch: 2, micro_batch: 2, threads: 1}
tables:
  main: {title: Main, models: [unet, diffusion], metrics: [rmse]}
"""


@pytest.mark.usefixtures("without_figures")
def test_trained_nets_with_and_without_perturbations(tmp_path: Path) -> None:
    folder = run_small_suite(tmp_path, NETS)
    found = examine(folder, {"noise": [3], "attenuation": [1]}, scores=["rmse"])
    assert [(model.model, model.degrade) for model in found.models] == [
        ("unet", ("zdr_bias=0.5", "noise=2")), ("diffusion", ()),
    ]  # fmt: skip
    # One seed of a trained net says nothing about the model.
    assert found.intervals == "events' intervals"
    assert "One training run of an arm" in " ".join(notes_of(found))
    for curve in found.curves:  # also of the diffusion, which adds next to nothing: its base sees the perturbed input
        assert len({point.radar.value for point in curve.points}) == len(curve.points)
    assert not any(folder.glob("cells/*/robustness/none"))
    result = warm.run([*POLARCAST, "robustness", str(folder), "--models", "unet", "--perturb", "noise=3", "--workers",
                       "1", "--json"], capture_output=True, text=True)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["format"] == "polarcast-robustness/1"
    wrong = warm.run([*POLARCAST, "robustness", str(tmp_path)], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "not a suite" in wrong.stderr

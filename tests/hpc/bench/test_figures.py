"""Figures show the values of the tables and are drawn only where there are data; the report contains all of them."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from polarcast.hpc.bench.figures import cases, comparison, distributions, performance
from polarcast.hpc.bench.figures.draw import FIGURES, draw_figures
from polarcast.hpc.bench.figures.source import FigureData, Kept
from polarcast.hpc.bench.report import write_report
from polarcast.hpc.bench.run import is_paper_archive
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec
from polarcast.hpc.bench.table import build_table
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import score_fields
from polarcast.hpc.utils import plot_style as style
from tests.support.fields import rain

OF_RAIN = [name for name, figure in FIGURES.items() if figure.task in ("", "qpe")]
LABELS = {"net": "A net", "context": "A net <with> context", "several": "An ensemble"}
SUITE = Suite(
    name="s",
    models={n: ModelSpec(label=label, arms=["radar"] if n == "context" else None) for n, label in LABELS.items()},
    tables={"table_8_1": TableSpec(title="Table 8.1", metrics=["rmse"])},
)


def records(error: float, seed: int, members: int = 1, **protocol_of: Any) -> Records:
    """Six events with a multiplicative error of the forecast."""
    observed = rain(seed, 6)
    noise = torch.randn(6, members, *observed.shape[1:], generator=torch.Generator().manual_seed(seed))
    forecast = observed[:, None] * (error * noise).exp()
    protocol = Protocol(unit="mm/h", shape=tuple(observed.shape[1:]), members=members, **protocol_of)
    sums = score_fields(forecast, observed, protocol)
    by_window = {name: of.double().numpy()[:, None, None] for name, of in sums.items()}
    return Records.of_windows(protocol, np.arange(6), by_window)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FigureData:
    scores = {
        ("net", "radar"): [records(0.5, 1), records(0.5, 2)],
        ("net", "dualpol"): [records(0.2, 1), records(0.2, 2)],
        ("context", "radar"): [records(0.4, 1)],
        ("several", "radar"): [records(0.5, 1, members=3)],
        ("several", "dualpol"): [records(0.2, 1, members=3)],
    }
    folder = tmp_path_factory.mktemp("cases")
    kept = []
    for model, arm in scores:
        maps = {name: rain(4, 2).numpy() for name in ("observed", "forecast")}
        made = {"process": rain(4, 3).numpy()} if model == "net" else {}
        path = folder / f"{model}-{arm}.npz"
        radar = 5 * rain(4, 2).numpy()[:, None, None]
        np.savez(path, radar=radar, event=[3, 5], frame=[1, 2], **maps, **made)  # type: ignore[arg-type]
        kept.append(Kept(model, arm, path))
    return FigureData(SUITE, scores, kept)


@contextmanager
def figures_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Collect the figures instead of writing them."""
    kept: list[Any] = []

    def keep(figure: Any, path: Path) -> Path:
        kept.append(figure)
        return path

    with monkeypatch.context() as patch:
        for module in (comparison, distributions, performance):
            patch.setattr(module, "save", keep)
        yield kept
    for figure in kept:
        style.pyplot().close(figure)


@pytest.fixture(scope="module")
def drawn(source: FigureData, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_figures(tmp_path_factory.mktemp("figures"), source)


def test_all_figures_with_data_are_drawn(drawn: list[Path]) -> None:
    assert [path.stem for path in drawn] == OF_RAIN
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert {path.name for path in drawn[0].parent.iterdir()} == {f"{name}.png" for name in OF_RAIN}


def test_figures_do_not_depend_on_the_number_of_processes(source: FigureData, tmp_path: Path) -> None:
    few = {
        key: [replace(run, sums={name: run.sums[name] for name in ("continuous", "paper_csi")}) for run in runs]
        for key, runs in source.scores.items()
    }
    alone, pool = (draw_figures(tmp_path / str(n), FigureData(SUITE, few, source.kept), n) for n in (1, 2))
    assert [path.name for path in alone] == ["arms.png", "classes.png", "cases.png", "process.png"]
    assert [path.read_bytes() for path in pool] == [path.read_bytes() for path in alone]


def test_figures_without_data_are_left_out(source: FigureData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites without samplers, ensembles or cases, and records without joint histograms."""
    older = {
        key: [replace(run, sums={k: v for k, v in run.sums.items() if k != "joint"}) for run in runs]
        for key, runs in source.scores.items()
        if key[0] != "several"
    }
    alone = {key: runs for key, runs in source.scores.items() if key[0] == "several"}
    with figures_kept(monkeypatch):
        drawn = draw_figures(Path(), FigureData(SUITE, older))
        of_ensembles = draw_figures(Path(), FigureData(SUITE, alone))
    assert {path.stem for path in drawn} == set(OF_RAIN) - {"scatter", "ensembles", "cases", "process"}
    assert [path.stem for path in of_ensembles] == ["ensembles"]


def test_another_threshold_is_used_if_the_usual_one_is_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ensemble whose records lack ranks is not drawn."""
    coarse = {("net", arm): [records(0.5, 1, threshold=(2.0, 20.0))] for arm in ("radar", "dualpol")}
    whole = {("several", "radar"): records(0.5, 1, members=3, threshold=(2.0, 20.0))}
    bare = replace(whole["several", "radar"], sums={"continuous": whole["several", "radar"].sums["continuous"]})
    with figures_kept(monkeypatch) as kept:
        comparison.draw_windows(Path("windows.png"), FigureData(SUITE, coarse))
        assert "≥ 20 mm/h" in kept[0].get_suptitle()
        one = FigureData(SUITE, {key: [run] for key, run in whole.items()})
        assert [path.stem for path in draw_figures(Path(), one)] == ["ensembles"]
        assert not draw_figures(Path(), FigureData(SUITE, {("several", "radar"): [bare]}))


def test_bars_and_whiskers_are_the_values_of_the_table(source: FigureData, monkeypatch: pytest.MonkeyPatch) -> None:
    with figures_kept(monkeypatch) as kept:
        comparison.draw_classes(Path("classes.png"), source)
        bars = [axis.containers for axis in kept[0].axes]
        lengths = [[bar.get_width() for bar in drawn] for of_class in bars for drawn in of_class[1::2]]
        ends = [drawn.errorbar[2][0].get_segments()[-1][:, 0] for of_class in bars for drawn in of_class[1::2]]
    spec = TableSpec(title="", models=["net", "context"], metrics=["rmse@class=*", "rmse"])
    records = build_table("t", replace(SUITE, tables={"t": spec}), source.scores).records
    arms = {arm: [r for r in records if r.model == "net" and r.arm == arm] for arm in ("radar", "dualpol")}
    expected = [r for pair in zip(*arms.values(), strict=True) for r in pair]
    assert [drawn[-1] for drawn in lengths] == pytest.approx([r.value for r in expected])
    # Where the interval is undefined, the bar has no whiskers.
    limits = [(r.value, r.value) if r.low is None else (r.low, r.high) for r in expected]
    assert np.array(ends) == pytest.approx(np.array(limits, float))
    assert [len(drawn) for drawn in lengths] == [2, 1] * 5


def test_points_of_the_performance_diagram_are_the_values_of_the_table(
    source: FigureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    with figures_kept(monkeypatch) as kept:
        performance.draw_performance(Path("performance.png"), source)
        drawn = kept[0].axes[0].containers[0].lines[0].get_xydata()
    spec = TableSpec(title="", models=["net"], metrics=["pod@threshold=*", "far@threshold=*"])
    records = build_table("t", replace(SUITE, tables={"t": spec}), source.scores).records
    pod, far = np.array([r.value for r in records if r.arm == "radar"], float).reshape(2, -1)
    assert drawn == pytest.approx(np.stack([1 - far, pod], -1), nan_ok=True)


def test_an_arm_that_was_not_run_is_not_drawn(source: FigureData, monkeypatch: pytest.MonkeyPatch) -> None:
    with figures_kept(monkeypatch) as kept:
        comparison.draw_windows(Path("windows.png"), source)
        both, radar = (len(axis.lines) for axis in kept[0].axes[:2])
        [hk, pod, pofd] = (line.get_ydata() for line in kept[0].axes[1].lines)
    assert (both, radar) == (6, 3)
    assert np.subtract(pod, pofd) == pytest.approx(hk, nan_ok=True)


def test_scatter_shows_the_scores_of_all_pixels(source: FigureData, monkeypatch: pytest.MonkeyPatch) -> None:
    with figures_kept(monkeypatch) as kept:
        distributions.draw_scatter(Path("scatter.png"), source)
        shown = kept[0].axes[0].texts[0].get_text()
        drawn = kept[0].axes[0].collections[0].get_array()
    spec = TableSpec(title="", models=["net"], metrics=["explained_variance", "cc", "rmse"])
    records = build_table("t", replace(SUITE, tables={"t": spec}), source.scores).records
    ev, cc, rmse = (r.value for r in records if r.arm == "radar")
    assert shown == f"radar\nEV {ev:.3f}\nCC {cc:.3f}\nRMSE {rmse:#.3g} mm/h"
    joint = sum(run.sums["joint"][..., 1:-1, 1:-1, 0].sum((0, 1, 2)) for run in source.scores["net", "radar"])
    assert np.array_equal(drawn.filled(0), joint)


def test_states_repeated_by_guidance_are_drawn_once() -> None:
    states = rain(3, 5).numpy()
    kept = cases._states({"process": np.repeat(states, 2, axis=0)})
    assert np.array_equal(kept, states)


def test_report_is_complete_and_self_contained(source: FigureData, drawn: list[Path], tmp_path: Path) -> None:
    tables = {"table_8_1": build_table("table_8_1", SUITE, source.scores)}
    about = {"The suite": "name: s <b>"}
    write_report(tmp_path / "report.html", "polarcast: s", tables, drawn, about, with_paper=False)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)|https?://|@import|url\(", page)
    images = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert [base64.b64decode(i) for i in images] == [path.read_bytes() for path in drawn]
    assert "A net &lt;with&gt; context" in page
    assert "name: s &lt;b&gt;" in page
    assert "41.616" not in page
    write_report(tmp_path / "report.html", "polarcast: s", tables, drawn, about, with_paper=True)
    assert "41.616" in (tmp_path / "report.html").read_text()


def test_only_the_published_archive_counts_as_the_papers() -> None:
    grid = {"shape": (256, 256), "heights_km": (1.0, 3.0, 7.0)}
    published, synthetic, coarse = (
        SimpleNamespace(provenance={"generator": made}, **(grid | other))
        for made, other in (("not recorded", {}), ("polarcast", {}), ("not recorded", {"shape": (64, 64)}))
    )
    assert [is_paper_archive(m) for m in (published, synthetic, coarse)] == [True, False, False]  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [2.1, 2.6])
def test_long_model_names_do_not_overlap(width: float) -> None:
    figure, axes = style.panels(["FURENet on top of extrapolation, probability-matched"] * 5, width=width)
    figure.canvas.draw()
    boxes = [axis.title.get_window_extent() for axis in axes[:, 0]]
    style.pyplot().close(figure)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))

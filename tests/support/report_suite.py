"""A suite that was never run: its score records, kept cases and report, made in a second."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from polarcast.data.origins import Area, Origin
from polarcast.hpc.bench.costs import Cost
from polarcast.hpc.bench.failures import CellFailure
from polarcast.hpc.bench.figures.source import FigureData, Kept
from polarcast.hpc.bench.layout import TableLayout
from polarcast.hpc.bench.report import Picture, ReportContext, Section, write_report
from polarcast.hpc.bench.report.gallery import gallery_of
from polarcast.hpc.bench.report.parts import Spent
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec
from polarcast.hpc.bench.table import ComparisonTable, build_table
from polarcast.hpc.scores.protocol import Protocol, nowcast_protocol
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import score_fields
from tests.support.fields import rain

LEADS = tuple(6.0 * (1 + i) for i in range(10))
ERRORS = {("net", "radar"): 0.6, ("net", "dualpol"): 0.2, ("law", "radar"): 0.5, ("law", "dualpol"): 0.45}
EVENTS = 8
KEPT = 4


def suite_of(task: str, label: str = "A net") -> Suite:
    """Return a suite of two models on two arms, with a table of two scores and one by threshold."""
    names = {"net": label, "law": "A law"}
    of_net = {"model": {"name": "unet"}} if task == "qpe" else {"model": {"name": "furenet"}}
    models = {name: ModelSpec(label=names[name], set=of_net) for name in ("net", "law")}
    thresholds = TableSpec(title="CSI by threshold", metrics=["csi@threshold=*"], rows=["model", "threshold"])
    main = TableSpec(title="Main table", metrics=["rmse", "cc"], versus="law")
    return Suite(name="s", task=task, seeds=[0, 1], models=models, tables={"main": main, "thresholds": thresholds})


@cache
def scores_of(task: str) -> dict[tuple[str, str], list[Records]]:
    """Return records of two seeds of each model and arm, with multiplicative errors."""
    return {run: [_records(task, error, seed) for seed in (1, 2)] for run, error in ERRORS.items()}


def _records(task: str, error: float, seed: int) -> Records:
    leads = LEADS if task == "nowcast" else (0.0,)
    observed = rain(7, EVENTS * len(leads))
    noise = torch.randn(observed.shape, generator=torch.Generator().manual_seed(seed))
    forecast = observed * (error * noise).exp()
    shape: Any = tuple(observed.shape[1:])
    protocol = nowcast_protocol(shape, 1, LEADS, (3.0,)) if task == "nowcast" else Protocol(unit="mm/h", shape=shape)
    sums = score_fields(forecast[:, None], observed, protocol)
    grid = (EVENTS, len(leads), 1)
    by_window = {name: of.double().numpy().reshape(*grid, *of.shape[1:]) for name, of in sums.items()}
    return Records.of_windows(protocol, np.arange(EVENTS), by_window)


def kept_in(folder: Path, task: str, size: int = 32, noise: bool = False) -> list[Kept]:
    """Write four cases of each run: case 0 has the largest error, case 3 the smallest.

    Args:
        folder: Folder to write to.
        task: qpe or nowcast.
        size: Pixels per side.
        noise: Whether each pixel differs from its neighbors, which is the hardest to compress.
    """
    frames = len(LEADS) if task == "nowcast" else 1
    found = []
    for (model, arm), error in ERRORS.items():
        generator = torch.Generator().manual_seed(3)
        plain = (
            60 * torch.rand(KEPT * frames, size, size, generator=generator) if noise else rain(4, KEPT * frames, size)
        )
        observed = plain.numpy().reshape(KEPT, frames, 1, size, size)
        forecast = (
            observed + np.float32(20 * error) * np.arange(KEPT, 0, -1, dtype=np.float32)[:, None, None, None, None]
        )
        channels = 2 if arm == "dualpol" else 1
        radar = np.repeat(observed[:, :1], channels, axis=1)
        if task == "qpe":
            observed, forecast = observed[:, 0, 0], forecast[:, 0, 0]
        path = folder / f"{model}-{arm}.npz"
        np.savez(path, radar=radar, observed=observed, forecast=forecast, event=np.arange(KEPT) + 3, frame=[0, 1, 2, 3])
        found.append(Kept(model, arm, path))
    return found


def manifest() -> Any:
    """Return what a gallery reads of a manifest: the time of one event."""
    return SimpleNamespace(origins={3: Origin(Area("A radar"), 1_600_000_000, 1_600_003_600)})


@cache
def tables_of(task: str, label: str = "A net") -> Mapping[str, ComparisonTable]:
    """Return the tables of the suite."""
    suite = suite_of(task, label)
    return {name: build_table(name, suite, scores_of(task)) for name in suite.tables}


def context_in(
    folder: Path, suite: Suite, scores: Mapping[tuple[str, str], list[Records]], **of_cases: Any
) -> ReportContext:
    """Return what a report tells beside its tables, with the gallery of `kept_in`."""
    source = FigureData(suite, scores, kept_in(folder, suite.task, **of_cases))
    spent = [Spent(model, arm, 2, 1.5, True, 0.25) for model, arm in ERRORS]
    plan = TableLayout(
        ["comparison", "score", "gain", "seeds", "events"], [["A net", "rmse", "5% lower", "2", "120"]], 3
    )
    power = Section("power-0", "Events that show a gain with 80% power", plan, ["A note."], [])
    setting, commands = [("task", "a task"), ("test events", "8")], ["polarcast bench s.yaml --out s"]
    return ReportContext(setting, gallery_of(source, manifest()), spent, [power], commands)


def a_report(folder: Path, task: str = "nowcast", label: str = "A net", **of_cases: Any) -> Path:
    """Write the report of the suite with all its sections; return its file."""
    suite, scores = suite_of(task, label), scores_of(task)
    costs = [Cost(model, suite.models[model].label, arm, 1000.0, 2e6, 3e6, 4e9) for model, arm in ERRORS]
    pictures = [_picture(folder, name) for name in ("arms.png", "classes.png")]
    lines = [["RMSE", "zh", "+0.10", "[−0.10, +0.30]"], ["RMSE", "zdr", "+0.90", "[+0.50, +1.2]"]]
    shapley = TableLayout(["score", "player", "Shapley value", "95% interval"], lines, 2)
    section = Section("explain", "Shapley values", shapley, ["A note."], [Picture(pictures[0], "Bars of <values>")])
    failure = CellFailure("net", suite.models["net"].label, "radar", 1, "out of <memory>", 3, ("line one", "</pre><b>"))
    write_report(
        folder / "report.html", "polarcast: s", tables_of(task, label), pictures, {"Configuration": "name: s"},
        costs, [section], verdict=["Dual-pol improves RMSE."], with_paper=False, failures=[failure],
        context=context_in(folder, suite, scores, **of_cases),
    )  # fmt: skip
    return folder / "report.html"


def _picture(folder: Path, name: str) -> Path:
    from PIL import Image

    Image.new("RGB", (40, 30), "gray").save(folder / name)
    return folder / name

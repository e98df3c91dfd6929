"""Which models the gallery of a report shows."""

from pathlib import Path

from polarcast.hpc.bench.figures.source import FigureData, Kept
from polarcast.hpc.bench.report.gallery import _models
from polarcast.hpc.bench.suite import load_suite
from polarcast.hpc.bench.table import is_random


def test_networks_are_shown_beside_one_baseline() -> None:
    suite = load_suite("demo")
    keys = [(model, arm) for model in suite.models for arm in suite.arms_of(model)]
    source = FigureData(suite, {key: [] for key in keys}, [Kept(model, arm, Path("cases.npz")) for model, arm in keys])
    chosen = _models(source)
    assert [is_random(suite, model) for model in chosen] == [True, True, False]
    assert all({"radar", "dualpol"} <= set(suite.arms_of(model)) for model in chosen)

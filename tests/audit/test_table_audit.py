"""Compute a suite's table again from its Parquet records, with none of the project's statistics or scores."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.small_suite import run_small_suite

SUITE = """
name: audited
data: {synth: {events: 30, frames: 2, size: 32, preset: tiny, seed: 11}, split: 0.5/0.17/0.33}
models:
  published: {label: published, set: {model: {name: power_law, coefficients: published}}}
  fitted: {label: fitted, set: {model: {name: power_law, coefficients: fitted}}}
tables:
  main: {title: Main, metrics: [rmse, paper_mse, paper_rbias, nb, "csi@threshold=5"]}
"""
PIXELS, OBSERVED, FORECAST, ABSOLUTE, SQUARED = range(5)
DRAWS = 5000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small_suite(tmp_path_factory.mktemp("suites"), SUITE)


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "tables/main.json").read_text())["records"])


def row(rows: list[dict[str, Any]], model: str, arm: str, metric: str) -> dict[str, Any]:
    [found] = [r for r in rows if (r["model"], r["arm"], r["metric"]) == (model, arm, metric)]
    return found


def moments(folder: Path, model: str, arm: str) -> np.ndarray:
    """Pixels, Σ observed, Σ forecast, Σ |error|, Σ error² of each event, (e, 5), and hits, misses, false alarms."""
    [file] = (folder / "cells").glob(f"{model}-{arm}-s0-*/scores.parquet")
    table = pq.read_table(file)
    classes = np.array(table["continuous"].to_pylist()).reshape(len(table), 4, 8).sum(1)[:, :5]
    counts = np.array(table["contingency"].to_pylist()).reshape(len(table), 6, 4)[:, 2, :3]
    return np.concatenate([classes, counts], 1)


def scores(sums: np.ndarray) -> dict[str, float]:
    mse = sums[SQUARED] / sums[PIXELS]
    return {
        "rmse": math.sqrt(mse),
        "paper_mse": mse,
        "paper_rbias": sums[ABSOLUTE] / sums[OBSERVED],
        "nb": 100 * (sums[FORECAST] - sums[OBSERVED]) / sums[OBSERVED],
        "csi@threshold=5": sums[5] / sums[5:8].sum(),
    }


@pytest.mark.parametrize("model", ["published", "fitted"])
def test_values_and_effects(folder: Path, rows: list[dict[str, Any]], model: str) -> None:
    radar, dualpol = (scores(moments(folder, model, arm).sum(0)) for arm in ("radar", "dualpol"))
    for metric, value in radar.items():
        assert row(rows, model, "radar", metric)["value"] == pytest.approx(value, rel=1e-12)
        change = dualpol[metric] - value
        effect = change / value if metric in ("rmse", "paper_mse", "paper_rbias") else change
        assert row(rows, model, "difference", metric)["value"] == pytest.approx(effect, rel=1e-9)


def test_the_interval_of_a_ratio(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Σ error² of both arms: the logarithm of their ratio, with influences b/Σb − a/Σa of each event."""
    a, b = (moments(folder, "fitted", arm)[:, SQUARED] for arm in ("radar", "dualpol"))
    events, value = len(a), math.log(b.sum() / a.sum())
    pivots = []
    for counts in np.random.default_rng(0).multinomial(events, np.full(events, 1 / events), size=DRAWS):
        drawn_a, drawn_b = np.repeat(a, counts), np.repeat(b, counts)
        influence = drawn_b / drawn_b.sum() - drawn_a / drawn_a.sum()
        error = math.sqrt(events / (events - 1) * np.square(influence).sum())
        pivots.append(abs(math.log(drawn_b.sum() / drawn_a.sum()) - value) / error)
    without = [math.log(np.delete(b, i).sum() / np.delete(a, i).sum()) for i in range(events)]
    half = np.quantile(pivots, 0.95) * math.sqrt((events - 1) * np.var(without))
    found = row(rows, "fitted", "difference", "paper_mse")
    limits = [math.exp(value - half) - 1, math.exp(value + half) - 1]
    assert [found["low"], found["high"]] == pytest.approx(limits, rel=1e-3)
    by_rmse = row(rows, "fitted", "difference", "rmse")
    assert 1 + by_rmse["low"] == pytest.approx(math.sqrt(1 + found["low"]), rel=1e-6)


def test_the_sign_flip_test_over_all_exchanges(folder: Path, rows: list[dict[str, Any]]) -> None:
    radar, dualpol = (moments(folder, "published", arm) for arm in ("radar", "dualpol"))
    events = len(radar)
    assert events <= 12
    for metric in ("rmse", "nb", "csi@threshold=5"):
        is_ratio = metric == "rmse"
        effects = []
        for swaps in itertools.product([False, True], repeat=events):
            swap = np.array(swaps)[:, None]
            first, second = np.where(swap, dualpol, radar).sum(0), np.where(swap, radar, dualpol).sum(0)
            one, other = scores(first)[metric], scores(second)[metric]
            effects.append(abs(math.log(other / one) if is_ratio else other - one))
        p = np.mean(np.array(effects) >= effects[0] * (1 - 1e-9))
        assert row(rows, "published", "difference", metric)["sign_flip"] == pytest.approx(p)


def test_holm_counts_functions_of_each_other_once(rows: list[dict[str, Any]]) -> None:
    found = {(r["model"], r["metric"]): r for r in rows if r["arm"] == "difference"}
    # RMSE is a function of MSE. Comparisons that too few events contribute to have no p-value.
    tests = {key: r["p_value"] for key, r in found.items() if key[1] != "rmse" and r["p_value"] is not None}
    assert len(tests) > 4
    highest = 0.0
    for rank, (key, p) in enumerate(sorted(tests.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(tests) - rank) * p))
        assert found[key]["p_holm"] == pytest.approx(highest, rel=1e-6)
    for model in ("published", "fitted"):
        of_rmse, of_mse = (found[model, name]["p_holm"] for name in ("rmse", "paper_mse"))
        assert of_rmse == (None if of_mse is None else pytest.approx(of_mse, rel=1e-6))
    assert ("fitted", "paper_mse") in tests


def test_support_is_the_number_of_events_and_pixels(folder: Path, rows: list[dict[str, Any]]) -> None:
    sums = moments(folder, "fitted", "radar")
    assert row(rows, "fitted", "radar", "rmse")["pixels"] == sums[:, PIXELS].sum()
    assert row(rows, "fitted", "radar", "csi@threshold=5")["pixels"] == sums[:, 5:7].sum()
    assert row(rows, "fitted", "radar", "rmse")["events"] == len(sums)

"""Exact Shapley values are compared with other libraries on equal results and with equal work."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
from torch import nn

from polarcast.data.errors import BadInput
from polarcast.hpc.config.load import load_config
from polarcast.hpc.perf import explain
from polarcast.hpc.perf.explain import CAPTUM, OTHERS, OURS, SHAP, agreement, contenders, measure_explain
from polarcast.models.qpe.unet import UNetBody

for library in explain.LIBRARIES:  # importing them would take every worker seconds
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install {library}", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

# Four channels: 24 orders instead of 720.
SMALL = ("model.widths=[2,4]", "match_params=false", "data.heights_km=[1.0,3.0]", "train.threads=1")


def test_all_libraries_give_the_same_attributions_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "_BATCHES", (4,))
    monkeypatch.setattr(explain, "_COALITIONS_TRIED", 2)
    measured = measure_explain(load_config("demo", list(SMALL)), size=8, background=2, rounds=2)
    assert [row.name for row in measured.rows] == [OURS, *OTHERS]
    assert list(measured.ratios) == [f"{OURS} / {name}" for name in OTHERS]
    for name in OTHERS:
        assert float(measured.notes[f"largest relative difference, {name}"]) < 1e-5
        low, high = map(float, measured.notes[f"quartiles of {OURS} / {name}"].split(" … "))
        assert low <= high
    assert json.loads(json.dumps(measured.as_record()))["perf"] == "explain"


def test_forecasts_are_counted_as_noted() -> None:
    game = explain._game(load_config("demo", list(SMALL)), 8, 2)
    windows, works = len(game.batch), contenders(game)
    counted = dict.fromkeys(works, 0)
    for name, work in works.items():

        def count(module: nn.Module, given: tuple[nn.Module, ...], name: str = name) -> None:
            counted[name] += len(given[0]) if isinstance(module, UNetBody) else 0  # type: ignore[arg-type]

        with nn.modules.module.register_module_forward_pre_hook(count):
            work()
    n, donors = 4, 2
    pairs = windows * donors // 2
    assert counted[OURS] == windows + (2**n - 2) * pairs == windows * explain._forecasts(OURS, n, donors)
    assert counted[SHAP] == windows * 2**n * donors == windows * explain._forecasts(SHAP, n, donors)
    assert counted[CAPTUM] == (24 * 4 + 1) * donors == explain._forecasts(CAPTUM, n, donors)


def test_results_that_differ_are_not_timed() -> None:
    works = {OURS: lambda: np.ones((3, 4, 5)), SHAP: lambda: np.full((3, 4, 5), 1.01)}
    with pytest.raises(ValueError, match=r"shap differs from polarcast by 1\.0e-02"):
        agreement(works)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("task=nowcast", "model.name=persistence"), "forecasts of several frames"),
        (("model.name=diffusion", "model.steps=2"), "diffusion samples"),
    ],
)
def test_models_that_cannot_be_compared_are_refused(settings: tuple[str, ...], reason: str) -> None:
    small = [] if "task=nowcast" in settings else list(SMALL)
    with pytest.raises(BadInput, match=reason):
        measure_explain(load_config("demo", [*small, *settings]), size=8, background=2, rounds=1)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "find_spec", lambda name: None if name == "captum" else object())
    with pytest.raises(BadInput, match="captum is not installed"):
        measure_explain(load_config("demo", list(SMALL)), size=8, background=2, rounds=1)

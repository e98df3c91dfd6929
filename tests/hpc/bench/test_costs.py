"""Parameters and FLOPs of the arms, from model cards."""

import json
from pathlib import Path

import pytest

from polarcast.hpc.bench.costs import Cost, cost_note, cost_rows, costs_of, ratios_of
from polarcast.hpc.bench.suite import ModelSpec, Suite

SUITE = Suite(
    name="s",
    arms=["radar", "dualpol", "placebo"],
    models={
        "unet": ModelSpec("U-Net"),
        "wide": ModelSpec("wide U-Net", radar_of="unet", arms=["dualpol"]),
        "law": ModelSpec("Z–R"),
    },
)


@pytest.fixture
def runs(tmp_path: Path) -> dict[tuple[str, str], Path]:
    cards = {
        ("unet", "radar"): {"parameters": 990, "training_flops": 2100, "forecast_flops": 700},
        ("unet", "dualpol"): {"parameters": 1000, "training_flops": 2000, "forecast_flops": 700},
        ("unet", "placebo"): {"parameters": 1000, "training_flops": 2000, "forecast_flops": 700},
        ("wide", "dualpol"): {"parameters": 4000, "training_flops": 8000, "forecast_flops": 2800},
        ("law", "radar"): {"parameters": None, "training_flops": None, "forecast_flops": None},
    }
    for (model, arm), card in cards.items():
        folder = tmp_path / f"{model}-{arm}"
        folder.mkdir()
        (folder / "card.json").write_text(json.dumps(card))
    return {key: tmp_path / "-".join(key) for key in cards}


def test_ratios_are_to_the_dual_pol_arm(runs: dict[tuple[str, str], Path]) -> None:
    costs = costs_of(SUITE, runs)
    assert [(cost.model, cost.arm) for cost in costs] == [
        ("unet", "radar"), ("unet", "dualpol"), ("unet", "placebo"), ("wide", "radar"), ("wide", "dualpol"),
    ]  # fmt: skip
    assert ratios_of(costs, "training_flops") == {
        ("unet", "radar"): 1.05, ("unet", "placebo"): 1.0, ("wide", "radar"): 2100 / 8000,
    }  # fmt: skip
    assert cost_note(costs_of(SUITE, runs, ["unet"])) == (
        "parameters and FLOPs of a training step, relative to dual-pol: radar: U-Net 0.990 and 1.050; "
        "placebo: U-Net 1.000 and 1.000"
    )
    rows = {(row["model"], row["arm"]): row for row in cost_rows(costs)}
    assert rows["unet", "radar"]["parameters_ratio"] == 0.99
    assert rows["unet", "dualpol"]["forecast_flops_ratio"] == 1


def test_runs_without_a_card_or_another_arm_give_no_ratio(runs: dict[tuple[str, str], Path]) -> None:
    (runs["unet", "dualpol"] / "card.json").write_text("damaged")
    costs = costs_of(SUITE, runs, ["unet"])
    assert {cost.arm for cost in costs} == {"radar", "placebo"}
    assert cost_note(costs) == ""
    assert cost_note([]) == ""
    assert cost_rows([Cost("m", "M", "radar", 1.0, None, None)])[0]["parameters_ratio"] is None

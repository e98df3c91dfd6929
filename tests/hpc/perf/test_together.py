"""Throughput of stacked nets: rows and ratios for each number of nets."""

import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.config.load import load_config
from polarcast.hpc.perf.together import ALONE, measure_together


@pytest.mark.parametrize("model", ["unet", "diffusion"])
def test_each_number_of_nets_has_a_row_and_a_ratio(model: str) -> None:
    train = ["train.global_batch=4", "train.micro_batch=2", "train.engine=ddp", "train.threads=1"]
    small = [f"model.name={model}", "model.widths=[4,8]", "match_params=false"]
    measured = measure_together(load_config("demo", [*small, *train]), 16, (1, 3), steps=1, rounds=1)
    assert [row.name for row in measured.rows] == [ALONE, "1 stacked", "3 stacked"]
    assert all(row.value > 0 for row in measured.rows)
    assert list(measured.ratios) == ["1 stacked / one net", "3 stacked / one net"]


def test_model_without_gradient_descent_is_rejected() -> None:
    config = load_config("demo", {"task": "nowcast", "model": {"name": "persistence"}})
    with pytest.raises(BadInput, match="persistence is not trained by gradient descent"):
        measure_together(config, 16, (1,), steps=1, rounds=1)


def test_model_that_samples_its_base_in_its_loss_is_rejected() -> None:
    base = {"run": "", "config": {"model": {"name": "diffusion", "widths": [4, 8]}}}
    config = load_config("demo", {"model": {"name": "post_process", "widths": [4, 8]}, "base": base})
    with pytest.raises(BadInput, match="can't be stacked"):
        measure_together(config, 16, (1,), steps=1, rounds=1)

"""Widths that match parameters keep their proportions, and stored runs keep the widths that they were trained with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config, load_stored
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.training.estimate import count
from polarcast.models.common.matching import match_levels, match_widths

DEMO_WIDTHS_BY_LEVELS = {"unet": [18, 31, 64], "wf_unet": [21, 43, 60]}
"""Solved by the version before `match_by`, for widths of [16, 32, 64] and [16, 32, 48]."""


def chain(inputs: int):
    """Parameter count of a chain of 3 × 3 convolutions."""
    return lambda widths: sum(9 * a * b + b for a, b in zip([inputs, *widths], widths, strict=False))


def spread(found: list[int], widths: list[int]) -> float:
    factors = np.array(found) / np.array(widths)
    return float(factors.max() / factors.min())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(12, 96), min_size=2, max_size=4), st.integers(1, 12), st.integers(1, 12))
def test_matched_widths_are_within_the_tolerance_and_in_proportion(widths: list[int], ours: int, theirs: int) -> None:
    target = chain(theirs)(widths)
    found = match_widths(chain(ours), widths, target)
    assert abs(chain(ours)(found) - target) <= 0.01 * target
    assert spread(found, widths) <= spread(match_levels(chain(ours), widths, target), widths) + 1e-9


def test_widths_that_match_already_are_kept() -> None:
    assert match_widths(chain(3), [32, 64, 128], chain(6)([32, 64, 128])) == [32, 64, 128]


def test_common_factor_is_exact_where_it_matches() -> None:
    widths = [20, 40, 80]
    assert match_widths(chain(3), widths, chain(3)([30, 60, 120])) == [30, 60, 120]


def test_widths_without_a_match_are_refused() -> None:
    with pytest.raises(ValueError, match="no widths near"):
        match_widths(lambda widths: 10_000 * (widths[0] // 8), [8], 15_000)


@pytest.mark.parametrize("model", ["unet", "diffusion", "wf_unet"])
def test_arms_have_flops_within_a_tenth(model: str) -> None:
    by_arm = {}
    for arm in ("radar", "dualpol", "placebo"):
        by_arm[arm] = count(resolve(load_config("demo", [f"arm={arm}", f"model.name={model}"])), (64, 64))
    assert by_arm["placebo"] == by_arm["dualpol"]
    assert by_arm["radar"].parameters == pytest.approx(by_arm["dualpol"].parameters, rel=0.01)
    assert by_arm["radar"].flops == pytest.approx(by_arm["dualpol"].flops, rel=0.1)


@pytest.mark.parametrize("model", DEMO_WIDTHS_BY_LEVELS)
def test_run_stored_before_the_rule_keeps_its_widths_and_digest(model: str, tmp_path: Path) -> None:
    settings_ = ["arm=radar", f"model.name={model}", *(["model.widths=[16,32,48]"] if model == "wf_unet" else [])]
    new = load_config("demo", settings_)
    stored = {key: value for key, value in new.to_dict().items() if key != "match_by"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stored))
    (tmp_path / "log.jsonl").touch()
    old = load_stored(tmp_path / "config.yaml")
    assert old == load_config(tmp_path / "config.yaml") == replace(new, match_by="levels")
    assert resolve(old).settings.widths == DEMO_WIDTHS_BY_LEVELS[model]
    assert resolve(new).settings.widths != DEMO_WIDTHS_BY_LEVELS[model]
    assert digest(old) != digest(new)


def test_base_stored_before_the_rule_keeps_its_widths() -> None:
    base = load_config("demo", ["arm=radar"]).to_dict()
    base.pop("match_by")
    config = load_config(
        "demo",
        {"arm": "radar", "model": {"name": "residual_diffusion"}, "base": {"run": "x", "config": base}},
    )
    resolved = resolve(config)
    [of_base] = resolved.bases
    assert of_base.settings.widths == DEMO_WIDTHS_BY_LEVELS["unet"]
    with torch.device("meta"):
        assert of_base.model.build(of_base.settings, of_base.inputs)

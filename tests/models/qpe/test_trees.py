"""Tests of the check of LightGBM's text: the same forecasts, and no corruption reaches LightGBM."""

import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.models.forecaster import InputSpec
from polarcast.models.qpe.boosting import Boosting, BoostingConfig
from polarcast.models.qpe.trees import checked_trees

FEATURES = 4
FUZZ = """
import random, sys
import lightgbm, numpy as np
from polarcast.data.errors import BadInput
from polarcast.models.qpe.trees import checked_trees

text, seed = open(sys.argv[1], "rb").read(), int(sys.argv[2])
pixels = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
pick, outcomes = random.Random(seed), [0, 0]
for _ in range(400):
    hostile = bytearray(text)
    for _ in range(pick.randint(1, 4)):
        at = pick.randrange(len(hostile))
        match pick.randrange(4):
            case 0: hostile[at] = pick.choice(b"0123456789-e. =\\n")
            case 1: del hostile[at : at + pick.randint(1, 60)]
            case 2: hostile[at:at] = pick.choice([b"9", b"-", b"99999999999", b"nan", b" 3", b"1e999", b"\\xff"])
            case 3: hostile[at:at] = hostile[pick.randrange(len(hostile)) :][: pick.randint(1, 200)]
    try:
        rebuilt = checked_trees(bytes(hostile), 4, "tweedie")
    except BadInput:
        outcomes[0] += 1
        continue
    outcomes[1] += 1
    assert lightgbm.Booster(model_str=rebuilt).predict(pixels, num_threads=1).shape == (50,)
print(*outcomes)
"""


def fitted(objective: str = "tweedie", **settings: object) -> tuple[str, np.ndarray]:
    """Return LightGBM's own text without its parameters, and pixels (n, FEATURES)."""
    draw = np.random.default_rng(0)
    pixels = draw.normal(size=(3000, FEATURES)).astype(np.float32)
    rain = np.exp(pixels[:, 0]) * (pixels[:, 1] > 0) + 0.1
    options = {"objective": objective, "num_leaves": 9, "verbosity": -1, "num_threads": 1, **settings}
    trees = lightgbm.train(options, lightgbm.Dataset(pixels, rain), 12)
    return trees.model_to_string().partition("\nparameters:")[0], pixels


@pytest.mark.parametrize("objective", ["tweedie", "poisson", "regression"])
@pytest.mark.parametrize("settings", [{}, {"min_data_in_leaf": 3000}], ids=["trees", "single leaves"])
def test_rebuilt_trees_give_the_same_bits(objective: str, settings: dict[str, object]) -> None:
    text, pixels = fitted(objective, **settings)
    rebuilt = checked_trees(text.encode(), FEATURES, objective)
    expected, found = (lightgbm.Booster(model_str=t).predict(pixels, num_threads=1) for t in (text, rebuilt))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("left_child=", "left_child=0 "),
        ("right_child=1 ", "right_child=0 "),
        ("split_feature=1", "split_feature=4"),
        ("decision_type=2", "decision_type=1"),
        ("num_cat=0", "num_cat=1"),
        ("is_linear=0", "is_linear=1"),
        ("leaf_value=-", "leaf_value=nan"),
        ("leaf_value=-", "leaf_value=-9e400"),
        ("objective=tweedie", "objective=poisson"),
        ("max_feature_idx=3", "max_feature_idx=7"),
        ("num_class=1", "num_class=99999999"),
        ("Tree=3", "Tree=4"),
        ("end of trees", ""),
        ("version=v4", "version=v4\naverage_output=1"),
    ],
)
def test_damaged_trees_are_refused_in_one_line(before: str, after: str) -> None:
    text, _ = fitted()
    assert before in text
    with pytest.raises(BadInput, match="damaged weights") as refused:
        checked_trees(text.replace(before, after, 1).encode(), FEATURES, "tweedie")
    assert "\n" not in str(refused.value)


def test_corrupted_trees_neither_abort_nor_hang_lightgbm(tmp_path: Path) -> None:
    path = tmp_path / "trees.txt"
    path.write_text(fitted()[0], encoding="utf-8")
    command = [sys.executable, "-c", FUZZ, str(path), "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    refused, loaded = map(int, ended.stdout.split())
    assert refused > 100
    assert loaded > 5  # changes of a number leave valid trees


@pytest.mark.parametrize("trees", [torch.zeros(9), torch.zeros((3, 3), dtype=torch.uint8), torch.tensor(0.5)])
def test_weights_whose_trees_are_no_text_are_refused_when_loaded(trees: torch.Tensor) -> None:
    model = Boosting(BoostingConfig(), InputSpec(("zh", "zdr"), (1.0, 3.0)))
    with pytest.raises(BadInput, match="damaged weights"):
        model.load_state_dict({"trees": trees})

"""Check of LightGBM's text format: LightGBM itself trusts it, and aborts or loops for ever on a damaged one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from polarcast.data.errors import BadInput

_HEADER = {"version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective",
           "feature_names", "feature_infos", "tree_sizes"}  # fmt: skip
_NUMBERS = re.compile(r"[-+.0-9e ]*")
_NUMERIC_SPLITS = {0, 2, 4, 6, 8, 10}
"""Decision types of numeric splits: direction of missing values (2), and their kind (4, 8); 1 would be categorical."""
_MOST_LEAVES = 2**17
_LARGEST = 1e300
_REMEDY = "copy the run again, or train the model again"


@dataclass(frozen=True)
class Tree:
    """One tree of n leaves and n - 1 splits; a child c ≥ 0 is a split, otherwise the leaf -c - 1."""

    features: list[int]
    thresholds: list[float]
    decisions: list[int]
    left: list[int]
    right: list[int]
    leaves: list[float]

    def check(self, features: int) -> None:
        """Check that each node is the child of exactly one earlier split, and all values are in range.

        Raises:
            ValueError: it is not such a tree.
        """
        n = len(self.leaves)
        if not 1 <= n <= _MOST_LEAVES:
            raise ValueError(f"{n} leaves")
        per_split: tuple[Sequence[float], ...] = (self.features, self.thresholds, self.decisions, self.left, self.right)
        if any(len(values) != n - 1 for values in per_split):
            raise ValueError(f"lists of different lengths for {n} leaves")
        if any(not 0 <= feature < features for feature in self.features):
            raise ValueError(f"a feature that is not among the {features} of the model")
        if not set(self.decisions) <= _NUMERIC_SPLITS:
            raise ValueError("a split of an unknown kind")
        if n > 1 and sorted([*self.left, *self.right]) != [*range(-n, 0), *range(1, n - 1)]:
            raise ValueError("nodes that do not form a tree")
        if any(0 <= child <= at for children in (self.left, self.right) for at, child in enumerate(children)):
            raise ValueError("a split before its parent")
        if not all(abs(value) < _LARGEST for value in (*self.thresholds, *self.leaves)):
            raise ValueError("a number that is not finite")

    def text(self, number: int) -> str:
        """Return LightGBM's text of the tree."""
        lists: dict[str, Sequence[float]] = {
            "split_feature": self.features, "threshold": self.thresholds, "decision_type": self.decisions,
            "left_child": self.left, "right_child": self.right, "leaf_value": self.leaves,
        }  # fmt: skip
        lines = [f"{key}={' '.join(map(repr, values))}" for key, values in lists.items()]
        start = [f"Tree={number}", f"num_leaves={len(self.leaves)}", "num_cat=0"]
        return "\n".join([*start, *lines, "is_linear=0", "shrinkage=1"]) + "\n\n\n"


def checked_trees(text: bytes, features: int, objective: str) -> str:
    """Return LightGBM text rebuilt from the checked numbers of another; nothing else of it reaches LightGBM.

    Args:
        text: Text of `Booster.model_to_string`, with or without what follows the trees.
        features: Number of features of the model.
        objective: Objective of the model.

    Raises:
        BadInput: the text is damaged, or is that of another model.
    """
    try:
        content, end, _ = text.decode("ascii").partition("\nend of trees")
        if not end:
            raise ValueError("the end is missing")
        header, *blocks = content.split("\nTree=")
        _check_header(header, features, objective)
        trees = [_parsed(block, number) for number, block in enumerate(blocks)]
        for tree in trees:
            tree.check(features)
        if not trees:
            raise ValueError("no tree")
    except (ValueError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"damaged weights ({reason[:120]})", "trees of model=boosting", _REMEDY) from None
    return _joined(trees, features, objective)


def _check_header(header: str, features: int, objective: str) -> None:
    first, *lines = header.strip().split("\n")
    fields = dict(line.split("=", 1) for line in lines)
    if first != "tree" or not fields.keys() <= _HEADER:
        raise ValueError("not the header of LightGBM")
    expected = {
        "num_class": "1", "num_tree_per_iteration": "1", "max_feature_idx": str(features - 1), "objective": objective,
    }  # fmt: skip
    for key, value in expected.items():
        if fields[key] != value:
            raise ValueError(f"{key} is {fields[key][:40]!r}, expected {value!r}")


def _parsed(block: str, number: int) -> Tree:
    first, *lines = block.strip().split("\n")
    fields = dict(line.split("=", 1) for line in lines)
    if first != str(number):
        raise ValueError(f"tree {first[:20]!r} where {number} was expected")
    tree = Tree(
        features=_integers(fields["split_feature"]),
        thresholds=_reals(fields["threshold"]),
        decisions=_integers(fields["decision_type"]),
        left=_integers(fields["left_child"]),
        right=_integers(fields["right_child"]),
        leaves=_reals(fields["leaf_value"]),
    )
    counts = fields["num_leaves"], fields["num_cat"], fields.get("is_linear", "0")
    if counts != (str(len(tree.leaves)), "0", "0"):
        raise ValueError("categorical or linear trees, or another number of leaves")
    return tree


def _integers(text: str) -> list[int]:
    return [int(token) for token in _tokens(text)]


def _reals(text: str) -> list[float]:
    return [float(token) for token in _tokens(text)]


def _tokens(text: str) -> list[str]:
    if not _NUMBERS.fullmatch(text):
        raise ValueError("text where numbers were expected")
    return text.split()


def _joined(trees: list[Tree], features: int, objective: str) -> str:
    header = [
        "tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0",
        f"max_feature_idx={features - 1}", f"objective={objective}",
        f"feature_names={' '.join(f'Column_{i}' for i in range(features))}",
        f"feature_infos={' '.join(['none'] * features)}",
    ]  # fmt: skip
    blocks = "".join(tree.text(number) for number, tree in enumerate(trees))
    return "\n".join(header) + "\n\n" + blocks + "end of trees\n"

"""Support vector machine for the quality of frames, its accuracy and its calibration."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.frame_quality.features import Features

Labels = npt.NDArray[np.bool_]

_FOLDS = 5
_BINS = 10
_SOFT_MARGIN = 1.0


@dataclass(frozen=True)
class Assessment:
    """Quality of a classifier on frames of groups of events that it was not fitted to.

    Attributes:
        frames, groups, folds: Labelled frames, their groups of events, and folds of the cross-validation.
        poor_share: Share of the labelled frames that the rule calls poor.
        accuracy: Share of the frames whose label the classifier finds.
        majority: Accuracy of the more frequent label.
        brier: Mean squared difference of probability and label.
        brier_of_share: Brier score of the share of good frames as constant probability.
        reliability: For each bin of the probability: mean probability, observed share of good frames, frames.
        others_accuracy: Accuracy on the training frames that were not labelled; None if all were.
    """

    frames: int
    groups: int
    folds: int
    poor_share: float
    accuracy: float
    majority: float
    brier: float
    brier_of_share: float
    reliability: list[list[float]]
    others_accuracy: float | None = None

    def as_record(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def fit(features: Features, is_good: Labels, groups: Sequence[str]) -> Any:
    """Fit a support vector machine with calibrated probabilities.

    A radial kernel on standardized features; Platt's sigmoid on predictions for groups that were left out.

    Args:
        features: (n, f).
        is_good: Labels, (n,).
        groups: Group of events of each frame; no group is in two folds.

    Raises:
        BadInput: the frames are of one label, or of one group.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = make_pipeline(StandardScaler(), SVC(C=_SOFT_MARGIN, kernel="rbf", gamma="scale"))
    folds = _folds(features, is_good, groups)
    return CalibratedClassifierCV(machine, method="sigmoid", cv=folds, ensemble=False).fit(features, is_good)


def probability(model: Any, features: Features) -> npt.NDArray[np.float64]:
    """Return the probability that frames (n, f) are good, (n,).

    Rounded to six digits, beyond which machines may differ in the order of their sums.
    """
    return np.asarray(model.predict_proba(features)[:, list(model.classes_).index(True)]).round(6)


def assess(features: Features, is_good: Labels, groups: Sequence[str]) -> Assessment:
    """Cross-validate the classifier over groups of events.

    Raises:
        BadInput: see `fit`.
    """
    folds = _folds(features, is_good, groups)
    chance = np.empty(len(is_good))
    for train, test in folds:
        model = fit(features[train], is_good[train], [groups[i] for i in train])
        chance[test] = probability(model, features[test])
    share = float(is_good.mean())
    return Assessment(
        frames=len(is_good),
        groups=len(set(groups)),
        folds=len(folds),
        poor_share=1 - share,
        accuracy=float(((chance >= 0.5) == is_good).mean()),
        majority=max(share, 1 - share),
        brier=float(np.mean((chance - is_good) ** 2)),
        brier_of_share=share * (1 - share),
        reliability=reliability(chance, is_good),
    )


def reliability(chance: npt.NDArray[np.float64], is_good: Labels) -> list[list[float]]:
    """Return mean probability, observed share of good frames, and frames of each bin that has any."""
    bins = np.minimum((chance * _BINS).astype(int), _BINS - 1)
    chosen = [bins == number for number in np.unique(bins)]
    return [[float(chance[one].mean()), float(is_good[one].mean()), int(one.sum())] for one in chosen]


def _folds(features: Features, is_good: Labels, groups: Sequence[str]) -> list[tuple[Any, Any]]:
    """Split frames into folds of whole groups with about equal shares of good frames.

    Raises:
        BadInput: a training part would have one label only.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    smallest = min(int(is_good.sum()), int((~is_good).sum()))
    number = min(_FOLDS, len(set(groups)), smallest)
    folds = list(StratifiedGroupKFold(number).split(features, is_good, groups)) if number > 1 else []
    if not folds or any(len(np.unique(is_good[train])) < 2 for train, _ in folds):
        raise BadInput(
            "too few training frames of good and of poor quality, or too few groups of events",
            "data.drop_by",
            "use more events, or data.drop_by=random",
        )
    return folds

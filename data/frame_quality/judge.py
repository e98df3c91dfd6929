"""Judge all training frames of shards: features, labels of a sample by the rule, classifier, scores; cached."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.files import replacing
from polarcast.data.frame_quality.classifier import assess, fit, probability
from polarcast.data.frame_quality.features import Features, features_of, names_of, summary_of
from polarcast.data.frame_quality.rule import Rule
from polarcast.data.loading.local import ReadFrames
from polarcast.data.loading.permute import Indices, keys_of, uniform
from polarcast.data.npz import check_npz
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.samples import EVENT, FRAME, RADAR
from polarcast.data.user_cache import own_cache

_log = logging.getLogger("polarcast")

FORMAT = "polarcast-frame-quality/1"
JUDGED_VARIABLES = ("zh", "zdr")
"""Variables whose fields are judged, for every arm alike. Not KDP: the archive's rain grid is computed from it."""
LABELLED = 300
"""Frames that are labelled, as in the source paper."""
_SEED = 0
_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class FrameQuality:
    """Quality of all training frames of shards.

    Attributes:
        event, frame: Numbers of each frame, ascending, (n,).
        score: Probability that the frame is good, (n,).
        report: Rule, labels and assessment of the classifier, as plain values.
    """

    event: Indices
    frame: Indices
    score: npt.NDArray[np.float64]
    report: dict[str, Any]

    def of(self, event: Indices, frame: Indices) -> npt.NDArray[np.float64]:
        """Return the scores of some training frames, (n,)."""
        known = _joined(self.event, self.frame)
        return self.score[np.searchsorted(known, _joined(event, frame))]


def judge_frames(manifest: Manifest, on_frame: Callable[[int], None] | None = None) -> FrameQuality:
    """Judge the training frames of shards, from the user's cache if they were judged before.

    The result depends on the shards alone: frames to label are drawn with a fixed seed.

    Args:
        manifest: Manifest of shards in a local folder.
        on_frame: Callback with the number of frames done; by default, a line is logged every 10 seconds.

    Raises:
        BadInput: the shards are not in a local folder, one can't be read, or the frames are too few or too alike.
    """
    folder = own_cache()
    file = folder / "frame-quality" / f"{_key(manifest)[:32]}.npz" if folder else None
    if file and (cached := _load(file)):
        return cached
    found = _judge(manifest, on_frame or _line_logger(len(training_frames(manifest))))
    if file:
        with suppress(OSError):
            _save(file, found)
    return found


def training_frames(manifest: Manifest) -> Indices:
    """Return the rows of the training frames in the manifest, by event and frame."""
    rows = np.flatnonzero(np.isin(manifest.samples[:, 1 + EVENT], manifest.splits["train"]))
    table = manifest.samples[rows]
    return rows[np.lexsort((table[:, 1 + FRAME], table[:, 1 + EVENT]))]


def _judge(manifest: Manifest, on_frame: Callable[[int], None]) -> FrameQuality:
    variables = [name for name in JUDGED_VARIABLES if name in manifest.variables]
    if variables[:1] != ["zh"]:
        raise BadInput("the shards have no zh", "data.drop_by", "use data.drop_by=random")
    rows = manifest.samples[training_frames(manifest)]
    event, frame = rows[:, 1 + EVENT], rows[:, 1 + FRAME]
    features = _read_features(manifest, rows, variables, on_frame)
    names = names_of(variables, manifest.heights_km)
    summary = summary_of(features, names)
    rule = Rule.of(summary)
    is_good = rule.is_good(summary)
    labelled = draw_labelled(event, frame)
    groups = [manifest.group_of(number) for number in event[labelled].tolist()]
    assessment = assess(features[labelled], is_good[labelled], groups).as_record()
    score = probability(fit(features[labelled], is_good[labelled], groups), features)
    others = np.setdiff1d(np.arange(len(rows)), labelled)
    if len(others):
        assessment["others_accuracy"] = float(((score[others] >= 0.5) == is_good[others]).mean())
    report = {
        "format": FORMAT, "variables": variables, "heights_km": list(manifest.heights_km), "features": names,
        "training_frames": len(rows), "poor_by_rule": float((~is_good).mean()),
        "poor_by_classifier": float((score < 0.5).mean()), "rule": rule.as_record(), "assessment": assessment,
    }  # fmt: skip
    return FrameQuality(event, frame, score, report)


def draw_labelled(event: Indices, frame: Indices) -> Indices:
    """Return which of the training frames are labelled, ascending; a random draw with a fixed seed."""
    return np.sort(np.argsort(uniform(keys_of(_SEED, event, frame)), kind="stable")[:LABELLED])


def _read_features(
    manifest: Manifest, rows: npt.NDArray[np.int64], variables: list[str], on_frame: Callable[[int], None]
) -> Features:
    source, shape = ReadFrames(manifest), (len(manifest.variables), len(manifest.heights_km), *manifest.shape)
    stored = np.empty((1, int(np.prod(shape))), np.float16)
    chosen = [manifest.variables.index(name) for name in variables]
    found = []
    for done, row in enumerate(rows.tolist(), start=1):
        source.copy(row[0], row[1 + RADAR], 0, stored)
        found.append(features_of(stored.reshape(shape)[chosen], variables))
        on_frame(done)
    return np.stack(found)


def _line_logger(frames: int) -> Callable[[int], None]:
    last = time.monotonic()

    def log(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            _log.warning("polarcast: judged %d of %d training frames; the result is kept", done, frames)

    return log


def _joined(event: Indices, frame: Indices) -> Indices:
    return event * 2**32 + frame


def _key(manifest: Manifest) -> str:
    """Return a hash of all that the result depends on."""
    content = [FORMAT, manifest.digest(), manifest.variables, manifest.heights_km, manifest.shape]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _save(file: Path, found: FrameQuality) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial, partial.open("wb") as stream:
        report = np.array(json.dumps(found.report))
        np.savez(stream, event=found.event, frame=found.frame, score=found.score, report=report)


def _load(file: Path) -> FrameQuality | None:
    """Read a cached result; None if there is none, or it is damaged."""
    with suppress(OSError, ValueError, KeyError, BadZipFile, BadInput):
        check_npz(file)
        with np.load(file) as content:
            report = json.loads(str(content["report"]))
            if report["format"] == FORMAT:
                return FrameQuality(content["event"], content["frame"], content["score"], report)
    return None

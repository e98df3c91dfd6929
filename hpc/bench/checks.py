"""Checks of the data and scores of a suite or sweep, before anything is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polarcast.data.archive import HEIGHTS_KM, TIME_STEP_MINUTES, VARIABLES, Archive, open_archive
from polarcast.data.errors import BadInput
from polarcast.data.field_file import read_field
from polarcast.data.groups import groups_of
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.data.splits import LEAVE_ONE_OUT, Splits, assign, hold_out
from polarcast.data.synth.generate import LIMITS, find_preset
from polarcast.hpc.bench.contrasts import contrasts_of, key_of_test
from polarcast.hpc.bench.data import DataSpec, SynthSpec
from polarcast.hpc.bench.fetched import FetchSpec, IngestSpec, check_fetch
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.scores.protocol import Protocol, nowcast_protocol
from polarcast.hpc.scores.query import check_available, expand, parse_score
from polarcast.hpc.scores.stats.bootstrap import LEAST_P
from polarcast.models.registry import get_model

_UNKNOWN_SHAPE = (4096, 4096)
_MANY_EVENTS = 1000
"""Number of events assumed where it is not known, so that no split is refused before the events are there."""
_LEVEL = 0.05
"""Family-wise error rate of Holm's correction in tables."""
_SPLIT_FIX = "use a split such as 0.6/0.15/0.25"


@dataclass(frozen=True)
class KnownData:
    """What is known of shards before they are made.

    Attributes:
        shape: Size of a field in pixels, (y, x).
        variables: Names of the radar variables.
        heights_km: Heights in km.
        splits: Events of each split.
        frames: Frames of the longest event, or None.
        groups: Group by event; an event without one is its own group.
        is_fold: Whether the test split is one group, left out of the others.
    """

    shape: tuple[int, int]
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    splits: Splits
    frames: int | None = None
    groups: Mapping[int, str] = field(default_factory=dict)
    is_fold: bool = False


def check_data(data: DataSpec, shards: Path) -> KnownData:
    """Check the data of a suite or sweep, before they are made.

    Args:
        data: Source of the shards.
        shards: Folder of the shards; if it exists, the archive is not needed any more.

    Raises:
        BadInput: the archive is missing, the split rule is unknown, a number is out of range, or what is to be fetched
            is unknown.
    """
    if (shards / NAME).is_file():
        return known_of(read_manifest(shards))
    if data.archive is not None:
        return _known_of_archive(open_archive(Path(data.archive)), data.split)
    if data.fetch is not None:
        return _known_of_fetch(data.fetch, data.ingest or IngestSpec(), data.split)
    _check_synth(data.synth)
    splits = _assigned(range(data.synth.events), data.split)
    shape = (data.synth.size,) * 2
    return KnownData(shape, VARIABLES, HEIGHTS_KM, splits, data.synth.frames, is_fold=_is_fold(data.split))


def _is_fold(split: str) -> bool:
    return split.startswith(LEAVE_ONE_OUT)


def _assigned(events: Sequence[int], rule: str, groups: Mapping[int, str] | None = None) -> Splits:
    """Assign events to splits by the rule of a suite or space."""
    try:
        return assign(events, rule, groups=groups)
    except BadInput as error:
        raise error.at("data.split") from None


def known_of(manifest: Manifest) -> KnownData:
    """Return what a manifest says of its shards."""
    grid = (manifest.shape, manifest.variables, manifest.heights_km)
    return KnownData(*grid, manifest.splits, groups=manifest.groups, is_fold=manifest.is_fold)


def _known_of_archive(archive: Archive, split: str) -> KnownData:
    groups = groups_of(archive).names
    splits = _assigned(sorted(archive.frames), split, groups)
    event, frames = max(archive.frames.items(), key=lambda item: len(item[1]))
    if not frames:
        raise BadInput("the archive has no frames", archive.root, "add data_dir_NNN/frame_MMM.npy to each folder")
    ny, nx = read_field(archive.first_file(event, frames[0])).shape
    grid = ((ny, nx), archive.variables, archive.heights_km)
    return KnownData(*grid, splits, len(frames), groups, _is_fold(split))


def _known_of_fetch(fetch: FetchSpec, ingest: IngestSpec, split: str) -> KnownData:
    """Return what is known before volumes are fetched: their grid, and one event for each storm."""
    check_fetch(fetch, ingest)
    splits = _assigned(range(fetch.storms or _MANY_EVENTS), split)
    heights = tuple(sorted(set(ingest.heights)))
    return KnownData((ingest.size,) * 2, tuple(ingest.variables), heights, splits, is_fold=_is_fold(split))


def _check_synth(synth: SynthSpec) -> None:
    find_preset(synth.preset)
    for name in ("events", "frames", "size", "seed"):
        value, (least, most) = getattr(synth, name), LIMITS[name]
        if value is not None and not least <= value <= most:
            raise BadInput(f"{value} is out of range", f"data.synth.{name}", f"give {least} to {most}")


def check_run(config: RunConfig, data: KnownData, where: str) -> None:
    """Check that a run can be trained on data that may not exist yet.

    Args:
        config: Configuration of the run.
        data: What is known of its data.
        where: Name of the run for messages.

    Raises:
        BadInput: the data lack a variable, height or split that it reads, events or fields are too small, or the
            validation can't compute a score.
    """
    try:
        _check_fields(config, data)
        _check_events(config, data)
        if get_model(config.model["name"]).trained:
            _check_training(config, data)
    except BadInput as error:
        raise error.at(f"{where}: {error.where}") from None


def _check_fields(config: RunConfig, data: KnownData) -> None:
    """Raise BadInput if the data lack a variable or a height."""
    if unknown := [name for name in config.variables() if name not in data.variables]:
        choices = ", ".join(data.variables)
        raise BadInput(f"the data have no {unknown[0]}", "data.variables", f"choose from: {choices}")
    if missing := [height for height in config.data.heights_km if height not in data.heights_km]:
        choices = ", ".join(f"{height:g}" for height in data.heights_km)
        raise BadInput(f"the data have no height {missing[0]:g} km", "data.heights_km", f"choose from: {choices}")


def _check_events(config: RunConfig, data: KnownData) -> None:
    """Raise BadInput if there is no training event, or if events are shorter than a window."""
    if not data.splits.get("train"):
        raise BadInput("no event is left to train on", "split", _SPLIT_FIX)
    needed = {"train": data.splits["train"]} if data.is_fold else data.splits
    if config.is_placebo and (alone := [name for name, events in needed.items() if _is_one_group(events, data)]):
        what = f"a placebo takes ZDR and KDP from other groups of events, and {alone[0]} has one only"
        raise BadInput(what, "split", _SPLIT_FIX)
    if config.data.hold_out:
        hold_out(data.splits["train"], config.data.hold_out, groups=data.groups)
    window = config.frames + config.lead_frames
    if config.is_nowcast and data.frames is not None and window > data.frames:
        what = f"a window has {window} frames, the longest event {data.frames}"
        raise BadInput(what, "data.lead_frames", "give fewer frames, or longer events")


def _is_one_group(events: Sequence[int], data: KnownData) -> bool:
    return len({data.groups.get(event, str(event)) for event in events}) == 1


def _check_training(config: RunConfig, data: KnownData) -> None:
    """Raise BadInput if crops exceed the fields, or validations can't be made."""
    if config.data.crop > (least := min(data.shape)):
        raise BadInput(f"{config.data.crop} pixels exceed the grid", "data.crop", f"give at most {least}")
    if not data.splits.get("validation"):
        raise BadInput("no event is left to validate on", "split", _SPLIT_FIX)
    protocol = expected_protocol(config, data.shape)
    for text in config.train.validate_scores:
        try:
            check_available(parse_score(text), protocol, ("lead_time",))
        except BadInput as error:
            raise error.at("train.validate_scores") from None


def check_base(config: RunConfig, where: str) -> None:
    """Check that a model can build on its bases, or start from another run, by building it without memory for weights.

    Raises:
        BadInput: a base is of another kind or reads other inputs, or the run to start from has another net.
    """
    import torch

    if not (config.base or config.start):
        return
    try:
        with torch.device("meta"):
            build_model(resolve(config))
    except BadInput as error:
        raise error.at(f"{where}: {error.where}") from None


def check_scores(suite: Suite, configs: Mapping[str, RunConfig], shape: tuple[int, int] | None = None) -> None:
    """Check that every table can be computed from the records that its models will have.

    Args:
        suite: The suite.
        configs: Configuration of each model.
        shape: Shape of the fields (y, x), if it is known; windows larger than a field are not scored.

    Raises:
        BadInput: records of a model will not contain a score; the message lists the coordinates to choose from.
    """
    is_synthetic = suite.data.is_synthetic
    shape = shape or ((suite.data.synth.size,) * 2 if is_synthetic else _UNKNOWN_SHAPE)
    for name, table in suite.tables.items():
        for model in suite.shown(table):
            protocol = expected_protocol(configs[model], shape)
            for text in table.metrics:
                try:
                    check_available(parse_score(text), protocol, () if is_synthetic else ("lead_time",))
                except BadInput as error:
                    raise error.at(f"tables.{name}, {model}") from None
        _check_family(suite, name, expected_protocol(configs[suite.shown(table)[0]], shape))


def _check_family(suite: Suite, name: str, protocol: Protocol) -> None:
    """Raise BadInput if a table lacks the comparisons to show, or none could pass Holm's correction.

    p-values are not given below `LEAST_P`.
    """
    table = suite.tables[name]
    scores = [score for text in table.metrics for score in expand(parse_score(text), protocol)]
    contrasts = [c for model in suite.shown(table) for c in contrasts_of(suite, table, model)]
    tests = len({key_of_test(c, score, table) for c in contrasts for score in scores})
    if table.only_comparisons and not tests:
        raise BadInput("shows comparisons only, but has none", f"tables.{name}", "give versus, or both arms")
    if tests * LEAST_P >= _LEVEL:
        what = f"{tests} tests are too many for Holm's correction, because no p-value is below {LEAST_P:g}"
        raise BadInput(what, f"tables.{name}", "show fewer models or scores")


def expected_protocol(config: RunConfig, shape: tuple[int, int] = _UNKNOWN_SHAPE) -> Protocol:
    """Return the protocol that the test events of a run will be scored with, (y, x) fields of the usual time step."""
    members = config.evaluate.members
    if not config.is_nowcast:
        return Protocol(unit="mm/h", shape=shape, members=members)
    leads = tuple(TIME_STEP_MINUTES * (1 + frame) for frame in range(config.lead_frames))
    return nowcast_protocol(shape, members, leads, tuple(config.data.heights_km))

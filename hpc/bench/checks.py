"""Checks of the data and scores of a suite, before anything is made."""

from collections.abc import Mapping
from pathlib import Path

from polarcast.data.archive import TIME_STEP_MINUTES, open_archive
from polarcast.data.errors import BadInput
from polarcast.data.splits import assign
from polarcast.data.synth.generate import find_preset
from polarcast.hpc.bench.data import DataSpec
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.scores.protocol import Protocol, nowcast_protocol
from polarcast.hpc.scores.query import check_available, parse_score

_BOUNDS = {"events": (1, 10**6), "frames": (1, 10**4), "size": (32, 2**14), "seed": (0, 2**32 - 1)}
_MANY_EVENTS = range(10_000)
_UNKNOWN_SHAPE = (4096, 4096)


def check_data(data: DataSpec, is_made: bool = False) -> None:
    """Check the data of a suite or sweep, before they are made.

    Args:
        data: Source of the shards.
        is_made: Whether the shards exist, so that the archive is not needed any more.

    Raises:
        BadInput: the archive is missing, the split rule is unknown, or a number is out of range.
    """
    synth = data.synth
    if data.archive is None:
        find_preset(synth.preset)
        for name, (least, most) in _BOUNDS.items():
            value = getattr(synth, name)
            if value is not None and not least <= value <= most:
                raise BadInput(f"{value} is out of range", f"data.synth.{name}", f"give {least} to {most}")
        assign(range(synth.events), data.split)
    else:
        events = _MANY_EVENTS if is_made else sorted(open_archive(Path(data.archive)).frames)
        assign(events, data.split)


def check_scores(suite: Suite, configs: Mapping[str, RunConfig], shape: tuple[int, int] | None = None) -> None:
    """Check that every table can be computed from the records that its models will have.

    Args:
        suite: The suite.
        configs: Configuration of each model.
        shape: Shape of the fields (y, x), if it is known; windows larger than a field are not scored.

    Raises:
        BadInput: records of a model will not contain a score; the message lists the coordinates to choose from.
    """
    is_synthetic = suite.data.archive is None
    shape = shape or ((suite.data.synth.size,) * 2 if is_synthetic else _UNKNOWN_SHAPE)
    for name, table in suite.tables.items():
        for model in suite.shown(table):
            protocol = expected_protocol(configs[model], shape)
            for text in table.metrics:
                try:
                    check_available(parse_score(text), protocol, () if is_synthetic else ("lead_time",))
                except BadInput as error:
                    raise BadInput(error.what, f"tables.{name}, {model}", error.fix) from None


def expected_protocol(config: RunConfig, shape: tuple[int, int] = _UNKNOWN_SHAPE) -> Protocol:
    """Return the protocol that the test events of a run will be scored with, (y, x) fields of the usual time step."""
    members = config.evaluate.members
    if not config.is_nowcast:
        return Protocol(unit="mm/h", shape=shape, members=members)
    leads = tuple(TIME_STEP_MINUTES * (1 + frame) for frame in range(config.lead_frames))
    return nowcast_protocol(shape, members, leads, tuple(config.data.heights_km))

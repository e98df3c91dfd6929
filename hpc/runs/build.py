"""Configuration → reader and model."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from polarcast.data.errors import BadInput
from polarcast.data.loading.augment import crop
from polarcast.data.loading.sampler import Change, Draw, block_shuffle, whole_shuffle
from polarcast.data.loading.order import Order
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.loading.augment import thicken
from polarcast.data.loading.augment import turn
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.staging import stage
from polarcast.data.splits import hold_out
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.config.load import config_of
from polarcast.hpc.config.load import model_config
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.distributed.world import World, device_of
from polarcast.models.forecaster import Forecaster, Inputs, parameter_count
from polarcast.models.common.matching import match_widths
from polarcast.models.registry import entry

_PIXELS_SCORED = 2**17


def open_shards(config: RunConfig) -> Manifest:
    """The manifest of the run's shards, staged to the node's own disk where that is asked for.

    Raises:
        BadInput: there are no shards, or their manifest is damaged.
    """
    manifest = read_manifest(config.data.shards)
    return stage(manifest, Path(config.data.stage_to)) if config.data.stage_to else manifest


def build_reader(config: RunConfig, manifest: Manifest, split: str, rain: bool = True) -> Reader:
    """The reader of one split, with the variables and heights of the run.

    Args:
        config: Of the run.
        manifest: The shards.
        split: `train`, `validation` or `test`.
        rain: Whether the rain rate is read, which a forecast alone does not need.

    Raises:
        BadInput: the shards lack something, or hold a reflectivity that was computed from the rain itself.
    """
    derived = manifest.provenance.get("derived", {}).get("zh")
    if derived and not config.is_nowcast:
        raise BadInput(
            f"its zh is not measured ({derived})",
            manifest.source.location,
            "estimating rain from it would be going in a circle: use an archive of measured reflectivity",
        )
    return open_reader(
        _without_held_out(config, manifest) if split == "train" else manifest,
        split,
        variables=config.variables(),
        heights_km=config.data.heights_km,
        frames=config.frames + config.lead_frames if config.is_nowcast else 1,
        targets=config.lead_frames if config.is_nowcast else None,
        future=config.is_nowcast,
        context=config.data.context,
        rain=rain and not config.is_nowcast,
        patience=_patience(config),
        budget=None if config.data.map_gib is None else int(config.data.map_gib * 2**30),
    )


def _without_held_out(config: RunConfig, manifest: Manifest) -> Manifest:
    """The shards with the training events that this model may see."""
    if not config.data.hold_out:
        return manifest
    kept, held_out = hold_out(manifest.splits["train"], config.data.hold_out)
    chosen = held_out if config.data.only_held_out else kept
    return replace(manifest, splits={**manifest.splits, "train": chosen})


def scoring_batch(manifest: Manifest) -> int:
    """Samples that are scored at once: by their pixels alone, so that no score depends on the machine."""
    return max(1, _PIXELS_SCORED // manifest.pixels)


def build_draw(config: RunConfig, reader: Reader) -> Draw:
    """The order of training samples. Raises BadInput when the shards can't be read in it, or patches don't fit."""
    data = config.data
    if data.reader == "stream":
        lanes, together = data.stream.lanes, data.stream.shuffle_shards
        order: Order = block_shuffle(reader, config.seed, data.balance, lanes, together)
    else:
        order = whole_shuffle(reader, config.seed, data.balance)
    if data.crop > min(reader.manifest.shape):
        raise BadInput(f"{data.crop} of {min(reader.manifest.shape)} pixels", "data.crop", "cut out smaller patches")
    changes: list[Change] = [partial(crop, side=data.crop)] if data.crop else []
    changes += [turn] if data.turn else []
    changes += [partial(thicken, most_db=data.thicken_db)] if data.thicken_db else []
    return Draw(reader, order, config.seed, data.max_bad_share, changes)


def _patience(config: RunConfig) -> Patience | None:
    """How patient streams are; None where files are read."""
    settings = config.data.stream
    is_stream = config.data.reader == "stream"
    return Patience(retries=settings.retries, stall_seconds=settings.stall_seconds) if is_stream else None


def build_model(config: RunConfig) -> Forecaster:
    """The run's model with freshly drawn weights: same seed, same weights.

    Raises:
        BadInput: `match_params` can't be met for these widths.
    """
    model = entry(config.model["name"])
    settings = model_config(config)
    if model.has_widths:
        settings.widths = _widths(config)
    base = build_model(config_of(config.base)) if config.base else None
    torch.manual_seed(config.seed)
    return model.build(settings, _inputs(config, config.variables()), base)




def _widths(config: RunConfig) -> list[int]:
    """Widths of this arm: the configured ones for the dual-pol arm, matched to its parameter count for any other."""
    widths = list(config.model["widths"])
    reference = config.arm_variables("dualpol")
    if not config.match_params or config.variables() == reference:
        return widths
    try:
        return match_widths(lambda w: _count(config, config.variables(), w), widths, _count(config, reference, widths))
    except ValueError as error:
        raise BadInput(str(error), "match_params", "use wider layers, or match_params=false") from None


def _count(config: RunConfig, variables: tuple[str, ...], widths: Sequence[int]) -> int:
    settings = model_config(config)
    settings.widths = list(widths)
    with torch.device("meta"):
        base = build_model(config_of(config.base)) if config.base else None
        return parameter_count(entry(config.model["name"]).build(settings, _inputs(config, variables), base))


def _inputs(config: RunConfig, variables: tuple[str, ...]) -> Inputs:
    return Inputs(variables, tuple(config.data.heights_km), config.frames, config.lead_frames)

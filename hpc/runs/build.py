"""Configuration → reader and model."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from polarcast.data.errors import BadInput
from polarcast.data.loading.augment import crop, flip_rotate, jitter_concentration
from polarcast.data.loading.order import Order
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.loading.sampler import TrainSampler, Transform, block_shuffle, whole_shuffle
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.staging import stage
from polarcast.data.splits import hold_out
from polarcast.hpc.config.resolve import ResolvedConfig
from polarcast.hpc.config.schema import RunConfig
from polarcast.models.forecaster import Forecaster

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


def build_sampler(config: RunConfig, reader: Reader) -> TrainSampler:
    """The order of training samples. Raises BadInput when the shards can't be read in it, or patches don't fit."""
    data = config.data
    if data.reader == "stream":
        lanes, together = data.stream.lanes, data.stream.shuffle_shards
        order: Order = block_shuffle(reader, config.seed, data.balance, lanes, together)
    else:
        order = whole_shuffle(reader, config.seed, data.balance)
    if data.crop > min(reader.manifest.shape):
        raise BadInput(f"{data.crop} of {min(reader.manifest.shape)} pixels", "data.crop", "cut out smaller patches")
    transforms: list[Transform] = [partial(crop, side=data.crop)] if data.crop else []
    transforms += [flip_rotate] if data.flip_rotate else []
    transforms += (
        [partial(jitter_concentration, most_db=data.concentration_jitter_db)] if data.concentration_jitter_db else []
    )
    return TrainSampler(reader, order, config.seed, data.max_bad_share, transforms)


def _patience(config: RunConfig) -> Patience | None:
    """How patient streams are; None where files are read."""
    settings = config.data.stream
    is_stream = config.data.reader == "stream"
    return Patience(retries=settings.retries, stall_seconds=settings.stall_seconds) if is_stream else None


def build_model(resolved: ResolvedConfig) -> Forecaster:
    """Return the run's model with freshly drawn weights: the same seed gives the same weights."""
    base = build_model(resolved.base) if resolved.base else None
    torch.manual_seed(resolved.run.seed)
    return resolved.model.build(resolved.settings, resolved.inputs, base)

"""Build the reader, sampler and model of a configuration."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from polarcast.data.degrade.batches import RandomDegrade
from polarcast.data.degrade.perturbation import Perturbation, parse_ranges
from polarcast.data.degrade.setup import RadarSetup
from polarcast.data.errors import BadInput, shown
from polarcast.data.frame_quality.drop import Keep, keep_at_random, keep_by_quality
from polarcast.data.frame_quality.rule import QUALITY
from polarcast.data.loading.augment import crop, flip_rotate, jitter_concentration
from polarcast.data.loading.order import Order
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.loading.sampler import TrainSampler, Transform, block_shuffle, donors_of, whole_shuffle
from polarcast.data.secrets import redacted
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.staging import stage
from polarcast.data.splits import hold_out
from polarcast.hpc.config.resolve import ResolvedConfig
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.config.stored import is_remote
from polarcast.hpc.runs.folder import RunFolder
from polarcast.models.forecaster import Forecaster

_PIXELS_SCORED, _LEAST_SCORED = 2**16, 2
"""Pixels of a batch, about as many as a core's cache holds the activations of, and its fewest windows."""


def open_shards(config: RunConfig) -> Manifest:
    """Read the manifest of the run's shards; with `data.stage_to`, copy the shards to the node-local disk first.

    Raises:
        BadInput: no shards found, or a damaged manifest.
    """
    manifest = read_manifest(config.data.shards)
    return stage(manifest, Path(config.data.stage_to)) if config.data.stage_to else manifest


def stored_shards(run: RunFolder) -> Manifest:
    """Read the manifest of the shards of a run from a local folder, or from anywhere if the user trusts the run.

    Raises:
        BadInput: the shards of a run that is not trusted are behind a command or a URL; see also `open_shards`.
    """
    config = run.config()
    if run.trust:
        return open_shards(config)
    if is_remote(config.data.shards):
        what = f"the stored configuration reads shards through {shown(redacted(config.data.shards))}"
        raise BadInput(what, run.path, "add --trust if you trust this run, or give --archive")
    # A folder to stage to would be written on this machine.
    return open_shards(replace(config, data=replace(config.data, stage_to=None)))


def build_reader(
    config: RunConfig, manifest: Manifest, split: str, rain: bool = True, observed: bool = False
) -> Reader:
    """Open the reader of one split, with the variables and heights of the run.

    Args:
        config: Configuration of the run.
        manifest: Manifest of the shards.
        split: `train`, `validation` or `test`.
        rain: Whether to read the rain rate; a forecast without scores does not need it.
        observed: Whether to read the masks of observed pixels; scores need them.

    Raises:
        BadInput: shards without a required variable or height, or with zh derived from the rain rate.
    """
    derived = manifest.provenance.get("derived", {}).get("zh")
    if derived and not config.is_nowcast:
        raise BadInput(
            f"zh is derived, not measured ({derived})",
            manifest.source.shown,
            "use an archive of measured reflectivity: estimating rain from this zh would be circular",
        )
    return open_reader(
        _without_held_out(config, manifest) if split == "train" else manifest,
        split,
        variables=config.variables(),
        heights_km=config.data.heights_km,
        frames=config.frames + config.lead_frames if config.is_nowcast else 1,
        targets=config.lead_frames if config.is_nowcast else None,
        future=config.is_nowcast,
        placebo=config.is_placebo,
        context=config.data.context,
        rain=rain and not config.is_nowcast,
        observed=observed,
        patience=_patience(config),
        budget=None if config.data.map_gib is None else int(config.data.map_gib * 2**30),
        keep=_kept_windows(config, manifest) if split == "train" else None,
    )


def _kept_windows(config: RunConfig, manifest: Manifest) -> Keep | None:
    """Return the function that drops poor training windows, or as many at random; None if all are used."""
    data = config.data
    if not data.drop_poor:
        return None
    by_quality = data.drop_by == QUALITY
    return keep_by_quality(manifest, data.drop_poor) if by_quality else keep_at_random(config.seed, data.drop_poor)


def _without_held_out(config: RunConfig, manifest: Manifest) -> Manifest:
    """Return the manifest with only the training events that this model may use."""
    if not config.data.hold_out:
        return manifest
    kept, held_out = hold_out(manifest.splits["train"], config.data.hold_out, groups=manifest.groups)
    chosen = held_out if config.data.only_held_out else kept
    return replace(manifest, splits={**manifest.splits, "train": chosen})


def scoring_batch(manifest: Manifest) -> int:
    """Return the batch size for scoring; it depends only on the grid, so that scores do not depend on the machine."""
    return max(_LEAST_SCORED, _PIXELS_SCORED // manifest.pixels)


def build_sampler(config: RunConfig, reader: Reader) -> TrainSampler:
    """Build the sampler of training samples. Raises BadInput for unsupported shards, or crops larger than the grid."""
    data = config.data
    if data.reader == "stream":
        lanes, together = data.stream.lanes, data.stream.shuffle_shards
        order: Order = block_shuffle(reader, config.seed, data.balance, lanes, together)
    else:
        order = whole_shuffle(reader, config.seed, data.balance)
    if data.crop > min(reader.manifest.shape):
        least = min(reader.manifest.shape)
        raise BadInput(f"{data.crop} pixels exceed the grid", "data.crop", f"give at most {least}")
    transforms: list[Transform] = _degrade(config, reader.manifest)
    transforms += [partial(crop, side=data.crop)] if data.crop else []
    transforms += [flip_rotate] if data.flip_rotate else []
    transforms += (
        [partial(jitter_concentration, most_db=data.concentration_jitter_db)] if data.concentration_jitter_db else []
    )
    return TrainSampler(reader, order, config.seed, data.max_bad_share, transforms, donors_of(reader, data.balance))


def _degrade(config: RunConfig, manifest: Manifest) -> list[Transform]:
    """Return the random perturbation of training samples, which comes first: crops lose the position of the radar."""
    if not config.data.degrade:
        return []
    ranges, setup = parse_ranges(config.data.degrade), RadarSetup.of(manifest)
    for step in ranges:
        # Both arms have the same list; what only the dual-pol arm reads does not change the other.
        seen = Perturbation((step,)).seen_by(config.variables())
        if obstacle := seen.obstacle(config.variables(), config.data.heights_km, setup.has_site):
            raise BadInput(f"{seen} does not apply: {obstacle}", "data.degrade", "remove it")
    return [RandomDegrade(ranges, setup)]


def _patience(config: RunConfig) -> Patience | None:
    """Return the retry settings of streams; None for mapped files."""
    settings = config.data.stream
    is_stream = config.data.reader == "stream"
    return Patience(retries=settings.retries, stall_seconds=settings.stall_seconds) if is_stream else None


def build_model(resolved: ResolvedConfig) -> Forecaster:
    """Build the model of a run with initial weights, determined by the seed."""
    bases = [build_model(base) for base in resolved.bases]
    torch.manual_seed(resolved.run.seed)
    return resolved.model.build(resolved.settings, resolved.inputs, *bases)

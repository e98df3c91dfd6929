"""Train a run: build, resume, step, log, validate, checkpoint, stop."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput, Stopped, WorkFailed
from polarcast.data.frame_quality.judge import judge_frames
from polarcast.data.frame_quality.rule import QUALITY
from polarcast.data.loading.permute import Indices
from polarcast.data.loading.reader import Reader
from polarcast.data.shards.health import ChangedShard
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.resolve import ResolvedConfig, resolve
from polarcast.hpc.config.schema import RunConfig, TrainConfig
from polarcast.hpc.distributed.heartbeat import DATA, STEP, VALIDATION, Heartbeat
from polarcast.hpc.distributed.preemption import TIME_LIMIT, StopFlag, StoppedNow, requeue, wait_to_be_ended
from polarcast.hpc.distributed.preflight import on_every_rank, preflight
from polarcast.hpc.distributed.process_group import barrier, gather, join
from polarcast.hpc.distributed.world import World, set_up_torch
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_model, build_reader, build_sampler, open_shards
from polarcast.hpc.runs.checkpoint import Progress, TrainState
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.intact import require_intact
from polarcast.hpc.runs.load import check_bases, load_bases
from polarcast.hpc.runs.provenance import check_data, describe, read_provenance, write_provenance
from polarcast.hpc.runs.start import check_start, load_start, with_weights
from polarcast.hpc.tracking.live import LiveMirrors
from polarcast.hpc.tracking.mirror import Mirror, open_mirror
from polarcast.hpc.training.async_checkpoint import AsyncCheckpointer
from polarcast.hpc.training.best import best_checkpoint
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.loader import TrainLoader
from polarcast.hpc.training.metrics_log import MetricsLogger
from polarcast.hpc.training.micro_batch import choose_micro_batch
from polarcast.hpc.training.model_card import write_card
from polarcast.hpc.training.profiler import StepProfile
from polarcast.hpc.training.validation import spread, validation_loss, validation_scores
from polarcast.models.forecaster import Forecaster, parameter_count

_FIT_WINDOWS = 512
"""Training windows used to fit the normalization of a network before training."""
OnStep = Callable[[int, int, float], None]


@dataclass
class Training:
    """Components of the training loop."""

    config: RunConfig
    world: World
    engine: Engine
    progress: Progress
    samples: TrainLoader
    batches: Iterator[Batch]
    validation: Reader
    logger: MetricsLogger
    heartbeat: Heartbeat
    stop: StopFlag
    mirrors: LiveMirrors
    saver: AsyncCheckpointer
    profile: StepProfile
    on_step: OnStep | None
    on_begin: Callable[[], None]
    """Called by all ranks when nothing but the steps is left to do; claims the run folder."""


def train(config: RunConfig, run: RunFolder, world: World, on_step: OnStep | None = None) -> None:
    """Train a run, resuming from its newest checkpoint if there is one. Return at once if the run is finished.

    Args:
        config: Configuration of the run.
        run: Run folder; rank 0 writes, all ranks read.
        world: Rank and size of the process group.
        on_step: Called on rank 0 with (completed steps, total steps, latest loss).

    Raises:
        BadInput: invalid data or configuration, a folder that contains another run, or nodes that differ.
        WorkFailed: the loss is not finite or has exploded; the message has the step, the rank and the samples. Or too
            many shards changed under the run; it has the shard.
        Stopped: a signal or the time limit ended the run early, after saving its progress.
    """
    join(world)
    config = on_every_rank(lambda: known_weights(config, run), world)
    if gather(run.is_trained, world)[0]:  # on shared file systems, nodes may see a new file at different times
        on_every_rank(lambda: reopen(config, run) if world.is_first else None, world)
        return
    on_every_rank(lambda: run.check(config) if world.is_first else None, world)
    with StopFlag(world, config.train.stop_seconds) as stop:
        try:
            with stop.at_once():
                _train(config, run, world, stop, on_step)
        except StoppedNow as signal:
            stop_early(world, str(signal), "no step is lost")
        except ChangedShard as error:
            raise WorkFailed(f"the data changed under the run: {error}") from None


def known_weights(config: RunConfig, run: RunFolder) -> RunConfig:
    """Return the configuration with the weights that a run has started from, or will start from.

    Raises:
        BadInput: see `RunFolder.check`; or the run to start from is not trained.
    """
    return with_weights(run.adopt(config))


def _train(config: RunConfig, run: RunFolder, world: World, stop: StopFlag, on_step: OnStep | None) -> None:
    resolved, model, manifest = build(config, run, world)
    if resolved.model.trained:
        _train_by_gradient(resolved, run, world, model, manifest, stop, on_step)
    elif world.is_first:
        reader = build_reader(config, manifest, "train")
        require_intact(reader, config.data, World())
        model.describe_data(manifest.provenance, config.is_placebo)
        _fit(model, reader, np.arange(len(reader)))
        _claim(config, run, world, manifest)
        checkpoint.save_weights(run.weights_file, model.state_dict())
    if world.is_first:
        write_card(run, resolved, manifest)


def build(config: RunConfig, run: RunFolder, world: World) -> tuple[ResolvedConfig, Forecaster, Manifest]:
    """Build the model of a run with its initial weights; collective.

    Raises:
        BadInput: invalid data, configuration, base run or run to start from.
    """
    manifest = on_every_rank(lambda: open_shards(config), world)
    on_every_rank(lambda: check_data(run.provenance_file, manifest) if world.is_first else None, world)
    set_up_torch(config.train.threads, world)
    resolved = resolve(config)
    if config.bases:
        on_every_rank(lambda: check_bases(config.bases), world)
    model = build_model(resolved)
    if config.bases:
        on_every_rank(lambda: load_bases(model, config.bases), world)
    if (start := config.start) and not gather(run.has_checkpoints, world)[0]:
        on_every_rank(lambda: check_start(start), world)
    return resolved, model, manifest


@dataclass(frozen=True)
class _SingleWindows:
    """Batches of one window each, read anew at each iteration."""

    reader: Reader
    windows: Indices

    def __iter__(self) -> Iterator[Batch]:
        return (self.reader.read([window]).to("cpu") for window in self.windows)


def _fit(model: Forecaster, reader: Reader, windows: Indices, most: int | None = None) -> None:
    """Fit the model to windows, or to `most` evenly spaced ones of them, the same on all ranks."""
    count = min(len(windows), most or len(windows))
    chosen = windows[np.linspace(0, len(windows) - 1, count).round().astype(int)]
    model.fit(_SingleWindows(reader, chosen))


def reopen(config: RunConfig, run: RunFolder) -> None:
    """Update the settings of a finished run that don't affect its result, such as the location of its shards."""
    run.check(config)
    if RunFolder(run.path, trust=True).config().data.shards != config.data.shards:
        check_data(run.provenance_file, open_shards(config))
    run.start(config)


def _claim(config: RunConfig, run: RunFolder, world: World, manifest: Manifest) -> None:
    """Write the configuration and the provenance into the run folder: from now on, it is that of this run."""
    if world.is_first:
        # Described before the folder is claimed, and only once: it asks git and the GPU.
        provenance = read_provenance(run.provenance_file) or describe(manifest, config)
        run.start(config)
        write_provenance(run.provenance_file, provenance)


def _train_by_gradient(
    resolved: ResolvedConfig,
    run: RunFolder,
    world: World,
    model: Forecaster,
    manifest: Manifest,
    stop: StopFlag,
    on_step: OnStep | None,
) -> None:
    with open_training(resolved, run, world, model, manifest, stop, on_step) as parts:
        progress, first = parts.progress, parts.progress.step
        reason = _loop(parts)
        if reason and progress.step > first:
            parts.saver.save(parts.engine, progress)
    if reason:
        stop_by_agreement(world, run, progress, first, reason)
    on_every_rank(lambda: keep_best(run, progress) if world.is_first else None, world)


@contextmanager
def open_training(
    resolved: ResolvedConfig,
    run: RunFolder,
    world: World,
    model: Forecaster,
    manifest: Manifest,
    stop: StopFlag,
    on_step: OnStep | None,
    make_engine: Callable[[Forecaster, TrainConfig, World, int, TrainState | None], Engine] = Engine,
    together: int = 1,
    micro_batch: int | None = None,
) -> Iterator[Training]:
    """Resume a run, load the weights to start from or fit the normalization, and open what steps need; collective.

    Args:
        resolved: Configuration of the run.
        run: Run folder.
        world: Rank and size of the process group.
        model: Model with its initial weights.
        manifest: Manifest of the shards.
        stop: Flag of signals; deferred while the training is open.
        on_step: See `train`.
        make_engine: Creates the engine.
        together: Number of nets that the process trains at once; logged.
        micro_batch: Samples per forward pass; by default those that `choose_micro_batch` returns.

    Raises:
        BadInput: see `train`.
    """
    config, settings = resolved.run, resolved.run.train
    found = _preflight(run, world) if world.size > 1 else {"together": together} if together > 1 else {}
    training, validation, samples = _open_data(config, manifest, run, world)
    logger = MetricsLogger(run, world, settings, together)
    state, progress = _resume(run, world)
    first, parameters = progress.step, parameter_count(model)
    micro_batch = micro_batch or choose_micro_batch(resolved, manifest, world)
    if not state and (start := config.start):
        # With its normalization, too: the weights were trained on inputs of that scale.
        on_every_rank(lambda: load_start(model, start), world)
    elif not state:
        model.describe_data(manifest.provenance, config.is_placebo)
        _fit(model, training, samples.intact(), _FIT_WINDOWS)
    engine = make_engine(model, settings, world, micro_batch, state)
    engine.guard.recent.extend(progress.recent_losses)
    batches = samples.batches(config, micro_batch, first, engine.stager)
    hang = partial(logger.hang, progress)

    def begin() -> None:
        on_every_rank(lambda: _claim(config, run, world, manifest), world)
        logger.begin(progress, parameters, micro_batch, found)
        samples.report(step=0)

    with (
        stop.at_once(False),
        AsyncCheckpointer(run, config, world) as saver,
        Heartbeat(world, settings.heartbeat_seconds, hang) as heartbeat,
        StepProfile(run, world, settings.profile, first, engine.device) as profile,
        LiveMirrors(_open_mirrors(run, settings) if world.is_first else []) as mirrors,
    ):
        yield Training(
            config, world, engine, progress, samples, batches, validation, logger, heartbeat, stop, mirrors, saver,
            profile, on_step, begin,
        )  # fmt: skip


def _open_data(
    config: RunConfig, manifest: Manifest, run: RunFolder, world: World
) -> tuple[Reader, Reader, TrainLoader]:
    """Open and verify training and validation data; return their readers and the loader of this rank; collective."""
    if config.data.drop_poor and config.data.drop_by == QUALITY:
        # One process of a node judges the frames; the others find the result in the user's cache.
        on_every_rank(lambda: judge_frames(manifest) if world.local_rank == 0 else None, world)
    training = build_reader(config, manifest, "train")
    validation = build_reader(config, manifest, "validation", observed=True)  # for its scores
    samples = TrainLoader(build_sampler(config, training), run, world)
    samples.inspect(training, config.data)
    require_intact(validation, config.data, world)
    return training, validation, samples


def _preflight(run: RunFolder, world: World) -> dict[str, Any]:
    on_every_rank(lambda: run.path.mkdir(parents=True, exist_ok=True) if world.is_first else None, world)
    return preflight(run.path, world)


def _open_mirrors(run: RunFolder, settings: TrainConfig) -> list[Mirror]:
    run.path.mkdir(parents=True, exist_ok=True)
    return [open_mirror(run, name) for name in settings.track]


def _loop(parts: Training) -> str:
    """Run the remaining steps, or until all ranks agree to stop; return the reason to stop, empty at the end."""
    settings, first = parts.config.train, parts.progress.step
    parts.logger.reset()
    if first == settings.steps:
        parts.on_begin()
    for step in range(first, settings.steps):
        if reason := parts.stop.agreed():
            return reason
        try:
            drawn = draw(parts, step)
        except StoppedNow as signal:
            return str(signal)
        if step == first:
            parts.on_begin()
        parts.heartbeat.at(step + 1, STEP)
        wait = not parts.engine.lags or _is_read(settings, step + 1)
        loss = parts.engine.step(drawn, learning_rate(settings, step), wait)
        if step == first and parts.engine.mode:
            parts.logger.mode(step + 1, parts.engine.mode)
        after_step(parts, step + 1, drawn, loss)
    return ""


def _is_read(settings: TrainConfig, step: int) -> bool:
    """Return whether the loss of a step is logged, or the step is validated or saved."""
    every = (settings.log_every, settings.validate_every, settings.checkpoint_every)
    return step == settings.steps or any(is_due(step, n) for n in every)


def draw(parts: Training, step: int) -> list[Batch]:
    """Seed torch for a step, and wait for its micro-batches. Raises StoppedNow at a signal."""
    seed_step(parts.config.seed, step, parts.world.rank)
    parts.heartbeat.at(step + 1, DATA)
    parts.profile.begin_step(step)
    with parts.stop.at_once(), parts.logger.waiting(), parts.profile.waiting():
        return [next(parts.batches) for _ in range(parts.engine.accumulation)]


def after_step(parts: Training, step: int, drawn: list[Batch], loss: float) -> None:
    """Log step `step` (from 1); validate and save if that is due."""
    settings, progress, engine = parts.config.train, parts.progress, parts.engine
    progress.step = step
    parts.profile.end_step()
    parts.logger.step(progress.step, loss, drawn, engine.own_time)
    if is_due(progress.step, settings.log_every):
        parts.mirrors.logged()
    if parts.on_step and parts.world.is_first:
        parts.on_step(progress.step, settings.steps, loss)
    if is_due(progress.step, settings.validate_every) or progress.step == settings.steps:
        parts.samples.report(progress.step)
        _validate(parts)
        parts.saver.save(engine, progress)
    elif is_due(progress.step, settings.checkpoint_every):
        parts.saver.save(engine, progress)


def keep_best(run: RunFolder, progress: Progress) -> None:
    """Write the weights of the best checkpoint. Raises BadInput if no complete one is left."""
    best = best_checkpoint(run, progress)
    if not best:
        raise BadInput("no checkpoint is complete", run.checkpoints, "run the same command again")
    checkpoint.save_weights(run.weights_file, checkpoint.evaluation_weights(best))


def stop_by_agreement(world: World, run: RunFolder, progress: Progress, first: int, reason: str) -> NoReturn:
    """Log that all ranks have stopped; raise Stopped, or WorkFailed if the time limit allows no step."""
    if world.is_first and run.config_file.exists():
        run.log(event="stopped", step=progress.step, reason=reason)
    barrier(world)
    if progress.step == first and reason == TIME_LIMIT:
        raise WorkFailed(f"no step completed within the time limit of the job; the run is still at step {first}")
    stop_early(world, reason, f"saved step {progress.step}" if progress.step else "no step was made")


def stop_early(world: World, reason: str, what: str) -> NoReturn:
    """Requeue the job if it is one, and raise Stopped."""
    if requeued := gather(world.is_first and requeue(), world)[0]:
        wait_to_be_ended()
    action = "the job is requeued" if requeued else "run the same command to continue"
    raise Stopped(f"stopped by {reason}; {what} — {action}")


def is_due(step: int, every: int) -> bool:
    """Return whether `step` is a multiple of `every`; never for `every` = 0."""
    return every > 0 and step % every == 0


def learning_rate(settings: TrainConfig, step: int) -> float:
    """Return the learning rate: linear warm-up, then cosine decay to zero.

    It depends on the step only, so checkpoints need no scheduler state.
    """
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    done = max(0, step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one step of one rank, so that a resumed run draws the same random numbers."""
    torch.manual_seed(((seed * 1_000_003 + step) * 65_537 + rank) % 2**64)


def _resume(run: RunFolder, world: World) -> tuple[TrainState | None, Progress]:
    """Load the newest valid checkpoint on all ranks; rank 0 selects it, and checks that the best one is not lost."""
    found = gather(checkpoint.newest(run.checkpoints) if world.is_first else None, world)[0]
    if not found:
        return None, Progress()
    state, progress = checkpoint.load(found)
    if world.is_first:
        best_checkpoint(run, progress)
    progress.best_step, progress.best_score = gather((progress.best_step, progress.best_score), world)[0]
    return state, progress


def _validate(parts: Training) -> None:
    """Validate, update the best step and log the result."""
    progress, settings, reader = parts.progress, parts.config.train, parts.validation
    windows = spread(len(reader), settings.validate_windows)
    with parts.engine.eval_model() as model:
        beat = partial(parts.heartbeat.at, progress.step, VALIDATION)
        loss = validation_loss(model, reader, windows, parts.world, beat)
        forecast = partial(model.forecast, members=parts.config.evaluate.members)
        scores = validation_scores(forecast, reader, windows, parts.world, settings.validate_scores, beat)
    if loss < progress.best_score or progress.best_step < 0:
        progress.best_score, progress.best_step = loss, progress.step
    parts.logger.validation(progress, loss, scores)

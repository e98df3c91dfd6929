"""Train a run: build, resume, step, log, validate, checkpoint, stop."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import Stopped, WorkFailed
from polarcast.data.loading.reader import Reader
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.resolve import ResolvedConfig, resolve
from polarcast.hpc.config.schema import RunConfig, TrainConfig
from polarcast.hpc.distributed.heartbeat import DATA, STEP, VALIDATION, Heartbeat
from polarcast.hpc.distributed.preemption import TIME_LIMIT, StopFlag, requeue, wait_to_be_ended
from polarcast.hpc.distributed.preflight import on_every_rank, preflight
from polarcast.hpc.distributed.process_group import barrier, gather, join
from polarcast.hpc.distributed.world import World, set_up_torch
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_model, build_reader, build_sampler, open_shards
from polarcast.hpc.runs.checkpoint import Progress, TrainState
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_base
from polarcast.hpc.runs.provenance import write_provenance
from polarcast.hpc.tracking.mirror import Mirror, open_mirror
from polarcast.hpc.training.async_checkpoint import AsyncCheckpointer
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.loader import TrainLoader
from polarcast.hpc.training.metrics_log import MetricsLogger
from polarcast.hpc.training.micro_batch import choose_micro_batch
from polarcast.hpc.training.model_card import write_card
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
    mirrors: list[Mirror]
    on_step: OnStep | None


def train(config: RunConfig, run: RunFolder, world: World, on_step: OnStep | None = None) -> None:
    """Train a run, resuming from its newest checkpoint if there is one. Return at once if the run is finished.

    Args:
        config: Configuration of the run.
        run: Run folder; rank 0 writes, all ranks read.
        world: Rank and size of the process group.
        on_step: Called on rank 0 with (completed steps, total steps, latest loss).

    Raises:
        BadInput: invalid data or configuration, a folder that contains another run, or nodes that differ.
        WorkFailed: the loss is not finite or has exploded; the message has the step, the rank and the samples.
        Stopped: a signal or the time limit ended the run early, after saving its progress.
    """
    join(world)
    if gather(run.is_trained, world)[0]:  # on shared file systems, nodes may see a new file at different times
        on_every_rank(lambda: run.start(config) if world.is_first else None, world)
        return
    with StopFlag(world, config.train.stop_seconds) as stop:
        manifest = on_every_rank(lambda: open_shards(config), world)
        set_up_torch(config.train.threads, world)
        resolved = resolve(config)
        model = build_model(resolved)
        if config.base:
            on_every_rank(lambda: load_base(model, config.base), world)
        on_every_rank(lambda: _start_run(config, run, world, manifest), world)
        if resolved.model.trained:
            _train_by_gradient(resolved, run, world, model, manifest, stop, on_step)
        elif world.is_first:
            _fit(model, build_reader(config, manifest, "train"))
            checkpoint.save_weights(run.weights_file, model.state_dict())
        if world.is_first:
            write_card(run, resolved, manifest)


def _fit(model: Forecaster, reader: Reader, most: int | None = None) -> None:
    """Fit the model in one pass over the training windows, or over `most` evenly spaced ones, the same on all ranks."""
    count = min(len(reader), most or len(reader))
    chosen = np.linspace(0, len(reader) - 1, count).round().astype(int)
    model.fit(reader.read([window]).to("cpu") for window in chosen)


def _start_run(config: RunConfig, run: RunFolder, world: World, manifest: Manifest) -> None:
    if world.is_first:
        run.start(config)
        write_provenance(run.provenance_file, manifest)


def _train_by_gradient(
    resolved: ResolvedConfig,
    run: RunFolder,
    world: World,
    model: Forecaster,
    manifest: Manifest,
    stop: StopFlag,
    on_step: OnStep | None,
) -> None:
    config, settings = resolved.run, resolved.run.train
    found = preflight(run.path, world) if world.size > 1 else {}
    training, validation = (build_reader(config, manifest, split) for split in ("train", "validation"))
    samples, logger = TrainLoader(build_sampler(config, training), run, world), MetricsLogger(run, world, settings)
    state, progress = _resume(run, world)
    first, parameters = progress.step, parameter_count(model)
    micro_batch = choose_micro_batch(resolved, manifest, world)
    if not state:
        _fit(model, training, _FIT_WINDOWS)
    engine = Engine(model, settings, world, micro_batch, state)
    engine.guard.recent.extend(progress.recent_losses)
    logger.begin(progress, parameters, micro_batch, found)
    samples.inspect(training, config.data)
    batches = samples.batches(config, micro_batch, first)
    hang = partial(logger.hang, progress)
    with (
        AsyncCheckpointer(run, config, world) as saver,
        Heartbeat(world, settings.heartbeat_seconds, hang) as heartbeat,
    ):
        mirrors = [open_mirror(run, name) for name in settings.track] if world.is_first else []
        parts = Training(
            config, world, engine, progress, samples, batches, validation, logger, heartbeat, stop, mirrors, on_step
        )
        reason = _loop(parts, saver)
        if reason and progress.step > first:
            saver.save(engine, progress)
        for mirror in mirrors:
            mirror.finish()
    if reason:
        _stop_early(world, logger, progress, first, reason)
    if world.is_first:
        best = run.checkpoints / checkpoint.name_of(progress.best_step)
        checkpoint.save_weights(run.weights_file, checkpoint.evaluation_weights(best))
    barrier(world)


def _loop(parts: Training, saver: AsyncCheckpointer) -> str:
    """Run the remaining steps, or until all ranks agree to stop; return the reason to stop, empty at the end."""
    settings, progress, engine, world = parts.config.train, parts.progress, parts.engine, parts.world
    for step in range(progress.step, settings.steps):
        if reason := parts.stop.agreed():
            return reason
        seed_step(parts.config.seed, step, world.rank)
        parts.heartbeat.at(step + 1, DATA)
        with parts.logger.waiting():
            drawn = [next(parts.batches) for _ in range(engine.accumulation)]
        parts.heartbeat.at(step + 1, STEP)
        loss = engine.step(drawn, learning_rate(settings, step))
        progress.step = step + 1
        parts.logger.step(progress.step, loss, drawn, engine.own_time)
        if parts.on_step and world.is_first:
            parts.on_step(progress.step, settings.steps, loss)
        if is_due(progress.step, settings.validate_every) or progress.step == settings.steps:
            parts.samples.report(progress.step)
            _validate(parts)
            saver.save(engine, progress)
        elif is_due(progress.step, settings.checkpoint_every):
            saver.save(engine, progress)
    return ""


def _stop_early(world: World, logger: MetricsLogger, progress: Progress, first: int, reason: str) -> None:
    """Requeue the job after the checkpoint is saved, and raise Stopped."""
    logger.log_event("stopped", progress.step, reason=reason)
    barrier(world)
    if progress.step == first and reason == TIME_LIMIT:
        raise WorkFailed(f"no step completed within the time limit of the job; the run is still at step {first}")
    if requeued := gather(world.is_first and requeue(), world)[0]:
        wait_to_be_ended()
    action = "the job is requeued" if requeued else "run the same command to continue"
    raise Stopped(f"stopped by {reason}; saved step {progress.step} — {action}")


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
    torch.manual_seed((seed * 1_000_003 + step) * 65_537 + rank)


def _resume(run: RunFolder, world: World) -> tuple[TrainState | None, Progress]:
    """Load the newest valid checkpoint on all ranks; rank 0 selects it."""
    found = gather(checkpoint.newest(run.checkpoints) if world.is_first else None, world)[0]
    return checkpoint.load(found) if found else (None, Progress())


def _validate(parts: Training) -> None:
    """Validate, update the best step, log the result and update the trackers."""
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
    for mirror in parts.mirrors:
        mirror.update()

"""Training on one screen: build, resume, step, log, validate, checkpoint, stop."""

import math
import time
from collections.abc import Callable, Sequence

import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import WorkFailed
from polarcast.data.reading.reader import Reader
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc import checkpoint
from polarcast.hpc.build import build_draw, build_model, build_reader, open_shards
from polarcast.hpc.checkpoint import Progress
from polarcast.hpc.collect import gather
from polarcast.hpc.config import RunConfig, TrainConfig
from polarcast.hpc.engine import Engine
from polarcast.hpc.provenance import write_provenance
from polarcast.hpc.run_folder import RunFolder
from polarcast.hpc.samples import Samples, samples_digest
from polarcast.hpc.world import World, set_threads
from polarcast.models.forecaster import Forecaster, parameter_count
from polarcast.models.registry import entry

OnStep = Callable[[int, int, float], None]


def train(config: RunConfig, run: RunFolder, world: World, on_step: OnStep | None = None) -> None:
    """Train a run to its end, from its newest checkpoint if it has one; nothing to do for a finished run.

    Args:
        config: What to train.
        run: Its folder; rank 0 writes there, all ranks read.
        world: This process's place.
        on_step: Called on rank 0 with (steps done, steps in all, latest loss).

    Raises:
        BadInput: unusable data or configuration, or a folder that holds another run.
        WorkFailed: the loss is not finite; names the step, the rank and the samples.
    """
    if run.is_trained:
        return
    manifest = open_shards(config)
    if world.is_first:
        run.start(config)
        write_provenance(run.provenance_file, manifest)
    set_threads(config.train.threads, world)
    model = build_model(config)
    if entry(config.model["name"]).trained:
        _descend(config, run, world, model, manifest, on_step)
    elif world.is_first:
        reader = build_reader(config, manifest, "train")
        model.fit(reader.read([window]).to("cpu") for window in range(len(reader)))
        checkpoint.save_weights(run.weights_file, model)


def _descend(
    config: RunConfig,
    run: RunFolder,
    world: World,
    model: Forecaster,
    manifest: Manifest,
    on_step: OnStep | None,
) -> None:
    settings = config.train
    training, validation = (build_reader(config, manifest, split) for split in ("train", "validation"))
    draw = build_draw(config, training)
    engine = Engine(model, settings, world)
    progress = _resume(run, engine)
    if world.is_first:
        run.rewind_log(progress.step)
        run.log(event="start", step=progress.step, parameters=parameter_count(model), world_size=world.size)
    samples = Samples(draw, run, world)
    samples.inspect(training, config.data)
    batches = samples.batches(config, engine.micro_batch, progress.step)
    for step in range(progress.step, settings.steps):
        started = time.perf_counter()
        seed_step(config.seed, step, world.rank)
        drawn = [next(batches) for _ in range(engine.accumulation)]
        loss = _step(engine, drawn, settings, step)
        progress.step = step + 1
        if progress.step % settings.log_every == 0:
            _log_step(run, engine, progress.step, loss, time.perf_counter() - started, samples_digest(drawn, world))
        if on_step and world.is_first:
            on_step(progress.step, settings.steps, loss)
        if progress.step % settings.validate_every == 0 or progress.step == settings.steps:
            samples.tell(progress.step)
            _validate(run, engine, validation, progress, settings)
    if world.is_first:
        checkpoint.load_weights(run.checkpoints / f"step-{progress.best_step:08d}" / "model.safetensors", model)
        checkpoint.save_weights(run.weights_file, model)
    engine.barrier()


def _step(engine: Engine, drawn: Sequence[Batch], settings: TrainConfig, step: int) -> float:
    try:
        return engine.step(drawn, learning_rate(settings, step))
    except WorkFailed as error:
        raise WorkFailed(f"step {step + 1}: {error}") from None


def learning_rate(settings: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero; a pure function of the step, so that nothing has to be saved."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    done = max(0, step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one step of one rank: a resumed run draws what an undisturbed one would."""
    torch.manual_seed((seed * 1_000_003 + step) * 65_537 + rank)


def _resume(run: RunFolder, engine: Engine) -> Progress:
    """Continue from the newest checkpoint that rank 0 finds complete; all ranks follow its choice."""
    found = gather(checkpoint.newest(run.checkpoints) if engine.world.is_first else None, engine.world)[0]
    return checkpoint.load(found, engine.model, engine.optimizer) if found else Progress()


def _log_step(run: RunFolder, engine: Engine, step: int, loss: float, seconds: float, samples: str) -> None:
    mean = engine.mean_over_ranks(loss)
    if engine.world.is_first:
        run.log(event="step", step=step, loss=mean, seconds=round(seconds, 4), samples=samples)


def _validate(run: RunFolder, engine: Engine, validation: Reader, progress: Progress, settings: TrainConfig) -> None:
    """Score the validation split, remember the best step, and write a checkpoint."""
    score = validation_loss(engine, validation, settings.micro_batch)
    if score < progress.best_score or progress.best_step < 0:
        progress.best_score, progress.best_step = score, progress.step
    if engine.world.is_first:
        checkpoint.save(run.checkpoints, engine.model, engine.optimizer, progress, settings.keep_checkpoints)
        run.log(event="validation", step=progress.step, loss=score, best_step=progress.best_step)
    engine.barrier()


@torch.no_grad()
def validation_loss(engine: Engine, reader: Reader, batch_size: int) -> float:
    """Mean loss over a split: every window once, in batches that don't depend on the number of processes."""
    starts = range(0, len(reader), batch_size)
    losses = []
    engine.model.eval()
    for start in starts[engine.world.rank :: engine.world.size]:
        batch = reader.read(range(start, min(start + batch_size, len(reader))))
        losses.append(float(engine.model.loss(batch.to(engine.device))) * len(batch))
    engine.model.train()
    # Exactly rounded, so that the order of the ranks does not matter either.
    return math.fsum(loss for of_rank in gather(losses, engine.world) for loss in of_rank) / len(reader)

"""Train several runs in one process, with the nets of all stepped together.

The runs differ in their seed, and build on base runs that do so, too. Each has its own data order, validation, log and
checkpoints, and its folder holds what `train` would have written. Results equal those of separate runs within rounding.
"""

import json
import logging
import textwrap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput, WorkFailed
from polarcast.data.shards.health import ChangedShard
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.resolve import ResolvedConfig
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.preemption import StopFlag, StoppedNow
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.backends.base import wants_bf16
from polarcast.hpc.training.micro_batch import choose_micro_batch
from polarcast.hpc.training.model_card import write_card
from polarcast.hpc.training.together_stack import NetEngine, NetStack
from polarcast.hpc.training.train import (
    OnStep,
    Training,
    after_step,
    build,
    draw,
    keep_best,
    known_weights,
    learning_rate,
    open_training,
    reopen,
    stop_by_agreement,
    stop_early,
    train,
)
from polarcast.models.forecaster import Forecaster
from polarcast.models.registry import get_model

_log = logging.getLogger("polarcast")
_WORLD = World()
_TOLERANCE, _TOLERANCE_BF16 = 1e-4, 2e-2
"""Relative difference of a loss from that of a separate net, at which stacking counts as wrong."""
_LONGEST_REASON = 160
"""Most characters of the message of an error in the log."""
_EXAMPLES = 4
"""Most samples on which stacking is tried."""


@dataclass
class Member:
    """One of the runs that are trained together."""

    config: RunConfig
    run: RunFolder
    on_step: OnStep | None = None
    failure: BadInput | WorkFailed | None = None
    """Why this run failed; the others go on without it."""


@dataclass(frozen=True)
class _Built:
    """A member with its model."""

    member: Member
    resolved: ResolvedConfig
    model: Forecaster
    manifest: Manifest


@dataclass(frozen=True)
class _Open:
    """A member in training, and its slot in the stack."""

    built: _Built
    slot: int
    parts: Training


@dataclass(frozen=True)
class _Group:
    """Members at the same step, and the stack of their nets."""

    stack: NetStack
    opened: list[_Open]

    @property
    def living(self) -> list[_Open]:
        """Members that have not failed."""
        return [one for one in self.opened if not one.built.member.failure]

    @property
    def step(self) -> int:
        """Completed steps of the members."""
        return max((one.parts.progress.step for one in self.opened), default=0)

    def each(self, action: Callable[[_Open], object]) -> None:
        """Call a function for each member; one that fails drops out."""
        for one in self.living:
            _attempt(one.built.member, partial(action, one))


def stack_key(config: RunConfig) -> str:
    """Return a text that is equal for runs whose nets can be stacked: it leaves out the seed and the base's folder."""
    return json.dumps(config.without_seed().to_dict(), sort_keys=True)


def train_together(members: Sequence[Member]) -> None:
    """Train runs in this process; resume those that have checkpoints, and leave finished ones.

    Nets that are behind others are trained together until they have caught up. Models that can't be stacked are trained
    one by one, and a line in the log says why. A run that fails gets a `failure`, and does not keep the others.

    Raises:
        ValueError: the runs differ in more than their seeds.
        Stopped: a signal or the time limit ended all runs early, after saving their progress.
    """
    if len({stack_key(member.config) for member in members}) > 1:
        raise ValueError("only runs that differ in nothing but their seed can be trained together")
    for member in members:
        _attempt(member, partial(_prepare, member))
    pending = _pending(members)
    why = _why_apart(pending) if len(pending) > 1 else ""
    if why:
        _log.warning("polarcast: %d nets are trained one by one: %s", len(pending), why)
    if why or len(pending) == 1:
        for member in pending:
            _attempt(member, partial(train, member.config, member.run, _WORLD, member.on_step))
    elif pending:
        with StopFlag(_WORLD, pending[0].config.train.stop_seconds) as stop:
            try:
                with stop.at_once():
                    _catch_up(members, stop)
            except StoppedNow as signal:
                stop_early(_WORLD, str(signal), "no step is lost")


def _prepare(member: Member) -> None:
    """Complete the configuration of a member, and check its folder."""
    member.config = known_weights(member.config, member.run)
    if member.run.is_trained:
        reopen(member.config, member.run)
    else:
        member.run.check(member.config)


def _pending(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if not member.failure and not member.run.is_trained]


def _attempt(member: Member, action: Callable[[], object]) -> None:
    """Call a function; if it fails with a known cause, only this member fails."""
    try:
        action()
    except ChangedShard as error:
        member.failure = WorkFailed(f"the data changed under the run: {error}")
    except (BadInput, WorkFailed) as error:
        member.failure = error


def _why_apart(members: Sequence[Member]) -> str:
    """Return why the nets of members can't be stacked; empty if they can. Two of them are tried on one batch."""
    config = members[0].config
    if not get_model(config.model["name"]).trained:
        return "the model is not trained in steps"
    for name in ("compile", "checkpoint_activations", "profile"):
        if getattr(config.train, name):
            return f"train.{name} is set"
    try:
        built = [_Built(member, *build(member.config, member.run, _WORLD)) for member in members[:2]]
        batch = _example(built[0])
    except (BadInput, WorkFailed):
        return ""  # each member reports its own failure when its training starts
    return _difference([one.model for one in built], batch, built[0].resolved)


def _example(built: _Built) -> Batch:
    config = built.resolved.run
    reader = build_reader(config, built.manifest, "train")
    return reader.read(range(min(_EXAMPLES, config.train.global_batch, len(reader))))


def _difference(models: Sequence[Forecaster], batch: Batch, resolved: ResolvedConfig) -> str:
    """Return how the losses of stacked nets differ from those of separate ones; empty if they don't."""
    settings, device = resolved.run.train, torch.device(device_of(_WORLD))
    is_bf16 = wants_bf16(settings, device)
    precision = torch.autocast(device.type, torch.bfloat16, enabled=is_bf16)
    with torch.no_grad(), precision:
        alone = [float(model.to(device).train().loss(batch.to(device))) for model in models]
    stack = NetStack(len(models), settings, _WORLD, 1)
    try:
        for slot, model in enumerate(models):
            stack.adopt(slot, model)
        with precision:
            losses = stack.nets(stack.joined([batch] * len(models)))
        losses.sum().backward()
    except Exception as error:  # whatever an operation raises that vmap does not support
        return textwrap.shorten(str(error), _LONGEST_REASON, placeholder="…") or type(error).__name__
    limit = _TOLERANCE_BF16 if is_bf16 else _TOLERANCE
    close = np.allclose(losses.tolist(), alone, rtol=limit, atol=1e-6)
    return "" if close else f"the losses of stacked nets are {losses.tolist()}, not {alone}"


def _catch_up(members: Sequence[Member], stop: StopFlag) -> None:
    """Train the members that are furthest behind until they reach the next ones, and so on to the end.

    A kill may fall between the checkpoints of two members; only then are they at different steps.
    """
    while pending := _pending(members):
        at = [_steps_done(member.run) for member in pending]
        group = [member for member, step in zip(pending, at, strict=True) if step == min(at)]
        ends = [step for step in at if step > min(at)]
        _train_until(group, min([*ends, group[0].config.train.steps]), stop)


def _steps_done(run: RunFolder) -> int:
    newest = checkpoint.newest(run.checkpoints)
    return checkpoint.step_of(newest) if newest else 0


def _train_until(members: Sequence[Member], end: int, stop: StopFlag) -> None:
    """Train members that have made equally many steps until they have made `end` steps."""
    built: list[_Built] = []
    for member in members:
        _attempt(member, partial(_append_built, built, member))
    if not built:
        return
    with ExitStack() as opened:
        group = _open(built, stop, opened)
        first = group.step
        reason = _loop(group, end, stop)
        if group.step > first and (reason or end < built[0].resolved.run.train.steps):
            group.each(lambda one: one.parts.saver.save(one.parts.engine, one.parts.progress))
    if reason and group.living:
        _stop(group, first, reason)
    if end == built[0].resolved.run.train.steps:
        group.each(_finish)


def _append_built(built: list[_Built], member: Member) -> None:
    built.append(_Built(member, *build(member.config, member.run, _WORLD)))


def _open(built: Sequence[_Built], stop: StopFlag, opened: ExitStack) -> _Group:
    """Open the training of each member; one that fails leaves its slot empty."""
    settings = built[0].resolved.run.train
    micro_batch = choose_micro_batch(built[0].resolved, built[0].manifest, _WORLD, len(built))
    group = _Group(NetStack(len(built), settings, _WORLD, settings.global_batch // micro_batch), [])

    def open_one(slot: int, one: _Built) -> None:
        engine = partial(NetEngine, group.stack, slot)
        parts = (one.resolved, one.member.run, _WORLD, one.model, one.manifest, stop, one.member.on_step)
        training = opened.enter_context(open_training(*parts, engine, len(built), micro_batch))
        group.opened.append(_Open(one, slot, training))

    for slot, one in enumerate(built):
        _attempt(one.member, partial(open_one, slot, one))
    return group


def _loop(group: _Group, end: int, stop: StopFlag) -> str:
    """Step all members until `end`; return the reason to stop, empty at the end or if all have failed."""
    first = group.step
    group.each(lambda one: one.parts.logger.reset())
    if first == end:
        group.each(lambda one: one.parts.on_begin())
    for step in range(first, end):
        if reason := stop.agreed():
            return reason
        try:
            drawn = _draw(group, step)
        except StoppedNow as signal:
            return str(signal)
        if step == first:
            group.each(lambda one: one.parts.on_begin())
        if not group.living:
            break
        _step(group, step, drawn)
        if step == first and group.stack.mode:
            group.each(lambda one: one.parts.logger.mode(first + 1, group.stack.mode))
    return ""


def _draw(group: _Group, step: int) -> dict[int, list[Batch]]:
    """Return the micro-batches of each living member, by slot."""
    drawn: dict[int, list[Batch]] = {}
    group.each(lambda one: drawn.update({one.slot: draw(one.parts, step)}))
    return drawn


def _step(group: _Group, step: int, drawn: dict[int, list[Batch]]) -> None:
    """Take one step; check its losses, and validate and save if that is due."""
    # The slots of members that have failed are computed, too, with any data: nets don't affect each other.
    any_data = next(iter(drawn.values()))
    rate = learning_rate(group.living[0].parts.config.train, step)
    losses, norms = group.stack.step([drawn.get(slot, any_data) for slot in range(group.stack.count)], rate)

    def complete(one: _Open) -> None:
        loss = one.parts.engine.complete(drawn[one.slot], losses[one.slot], norms[one.slot])
        after_step(one.parts, step + 1, drawn[one.slot], loss)

    group.each(complete)


def _stop(group: _Group, first: int, reason: str) -> NoReturn:
    """Log that all members have stopped; raise Stopped, or WorkFailed if the time limit allows no step."""
    *others, last = group.living
    for one in others:
        run = one.built.member.run
        if run.config_file.exists():
            run.log(event="stopped", step=one.parts.progress.step, reason=reason)
    stop_by_agreement(_WORLD, last.built.member.run, last.parts.progress, first, reason)


def _finish(one: _Open) -> None:
    keep_best(one.built.member.run, one.parts.progress)
    write_card(one.built.member.run, one.built.resolved, one.built.manifest)

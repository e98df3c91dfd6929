"""Degrade batches: all samples alike for scores, and each sample at random for training."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.degrade.fields import Scene, Turns, degrade, drawn_sectors, fixed_sectors
from polarcast.data.degrade.perturbation import KINDS, LOST, LOST_HEIGHT, Level, Perturbation
from polarcast.data.degrade.setup import RadarSetup
from polarcast.data.loading.permute import Indices, Keys, keys_of, uniform

_SCORED, _TRAINED = 0x64656772, 0x64656774
_LOST_SHARE = 0.5


def degrade_for_scores(batch: Batch, perturbation: Perturbation, setup: RadarSetup) -> Batch:
    """Perturb the input of a batch; what is to be forecast or estimated stays.

    Random numbers depend on the event and the number of a frame alone. They are the same for every model and arm, and
    for a frame in several windows.

    Args:
        batch: Batch of whole fields.
        perturbation: What to apply.
        setup: Properties of the archive.
    """
    frames = torch.arange(batch.radar.shape[1])
    if batch.target_zh is None:  # context precedes the frame of the estimate, and is repeated at the start of an event
        frames = frames - (len(frames) - 1)
    numbers = (batch.frame.cpu()[:, None] + frames).clamp(min=0).numpy()
    keys = keys_of(_SCORED, batch.event.cpu().numpy()[:, None], numbers)
    return _degraded(batch, perturbation, setup, keys, fixed_sectors(len(batch)))


def _degraded(batch: Batch, perturbation: Perturbation, setup: RadarSetup, keys: Keys, sectors: Turns) -> Batch:
    if not perturbation.active.steps:
        return batch
    scene = Scene(batch.heights_km, setup, keys, sectors)
    named = {name: field.float() for name, field in zip(batch.variables, batch.radar.unbind(2), strict=True)}
    fields = degrade(named, perturbation, scene)
    radar = torch.stack([fields[name] for name in batch.variables], 2).to(batch.radar.dtype)
    return replace(batch, radar=radar, last_zh=_last_zh(batch, fields, perturbation, scene))


def _last_zh(batch: Batch, fields: dict[str, Tensor], perturbation: Perturbation, scene: Scene) -> Tensor | None:
    """Return zh of the last input frame as the models see it, also if zh is not among their variables."""
    if batch.last_zh is None:
        return None
    if "zh" not in fields:
        last = replace(scene, keys=scene.keys[:, -1:])
        fields = degrade({"zh": batch.last_zh[:, None].float()}, perturbation, last)
    return fields["zh"][:, -1].to(batch.last_zh.dtype)


@dataclass(frozen=True)
class RandomDegrade:
    """Random perturbations of training samples.

    Attributes:
        ranges: Kinds and their strongest levels; see `parse_ranges`.
        setup: Properties of the archive.
    """

    ranges: tuple[tuple[str, Level], ...]
    setup: RadarSetup

    def __call__(self, batch: Batch, position: Indices, seed: int) -> Batch:
        """Perturb each sample; levels and noise depend only on the seed and the stream position.

        Args:
            batch: Batch of whole fields, before they are cropped: the radar is their center pixel.
            position: (b,) positions of the samples in the infinite training stream.
            seed: Seed of the run.
        """
        samples = []
        for sample, place in enumerate(position):
            samples.append(self._degraded(_sample(batch, sample), seed, int(place)))
        radar = torch.cat([one.radar for one in samples])
        last = [one.last_zh for one in samples if one.last_zh is not None]
        return replace(batch, radar=radar, last_zh=torch.cat(last) if last else None)

    def _degraded(self, one: Batch, seed: int, position: int) -> Batch:
        key = keys_of(seed, _TRAINED, position)
        drawn = (_drawn(step, float(uniform(keys_of(int(key[0]), n))[0])) for n, step in enumerate(self.ranges))
        keys = keys_of(int(key[0]), -1, np.arange(one.radar.shape[1]))[None]
        for step in drawn:  # a lost variable and a lost height may appear several times
            if step is not None:
                one = _degraded(one, Perturbation((step,)), self.setup, keys, drawn_sectors(key))
        return one


def _sample(batch: Batch, at: int) -> Batch:
    """Return the input of one sample."""
    chosen = slice(at, at + 1)
    last_zh = None if batch.last_zh is None else batch.last_zh[chosen]
    radar, event, frame = batch.radar[chosen], batch.event[chosen], batch.frame[chosen]
    return Batch(radar, None, event, frame, batch.variables, batch.heights_km, last_zh=last_zh)


def _drawn(step: tuple[str, Level], share: float) -> tuple[str, Level] | None:
    """Return a step at a random level, given a uniform random number; None if it changes nothing."""
    name, level = step
    kind = KINDS[name]
    if name in (LOST, LOST_HEIGHT):
        return step if share < _LOST_SHARE else None
    strongest, neutral = float(level), float(kind.neutral or 0)
    if kind.least < neutral:
        return name, abs(strongest) * (2 * share - 1)
    if kind.is_whole:
        return name, neutral + int(share * (strongest - neutral + 1))
    return name, neutral + share * (strongest - neutral)

"""Random changes of training samples: patches, flips and rotations, concentration of drops."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.loading.permute import Indices, keys_of, uniform

# Each kind of change draws numbers of its own from the one seed.
_CROP, _FLIP_ROTATE, _JITTER = 0x63726F70, 0x7475726E, 0x7468636B
_FLOOR_DBZ = 5.0
"""What is weaker is no echo, as archives have it."""


def crop(batch: Batch, position: Indices, seed: int, side: int) -> Batch:
    """A square patch of each sample, in a place that follows from its position in the stream, and the seed, alone.

    Args:
        batch: Of whole fields.
        position: (b,) places of the samples in the run's endless stream.
        seed: Of the run.
        side: Of the patch, in pixels; at most that of the fields.
    """
    height, width = batch.radar.shape[-2:]
    top = (keys_of(seed, _CROP, position) % np.uint64(height - side + 1)).astype(int)
    left = (keys_of(seed, _CROP + 1, position) % np.uint64(width - side + 1)).astype(int)
    places = [(slice(y, y + side), slice(x, x + side)) for y, x in zip(top.tolist(), left.tolist(), strict=True)]
    return batch.map(lambda field: torch.stack([one[..., y, x] for one, (y, x) in zip(field, places, strict=True)]))


def flip_rotate(batch: Batch, position: Indices, seed: int) -> Batch:
    """Each sample in one of the eight ways to lay a square; of a field that isn't square, in one of four.

    Args:
        batch: Of fields (…, y, x); all fields of a sample are laid the same way.
        position: (b,) places of the samples in the run's endless stream; the way follows from it, and the seed, alone.
        seed: Of the run.
    """
    ways = (keys_of(seed, _FLIP_ROTATE, position) % np.uint64(8)).astype(int).tolist()
    return batch.map(lambda field: torch.stack([_laid(one, way) for one, way in zip(field, ways, strict=True)]))


def _laid(field: Tensor, way: int) -> Tensor:
    mirrored = [axis for axis, bit in ((-1, 1), (-2, 2)) if way & bit]
    turned = field.flip(mirrored) if mirrored else field
    return turned.mT if way & 4 and field.shape[-1] == field.shape[-2] else turned


def jitter_concentration(batch: Batch, position: Indices, seed: int, most_db: float) -> Batch:
    """The number of drops of each sample multiplied by a factor, its shape of spectrum kept.

    So zh is shifted, kdp and the rain rate are multiplied, and zdr stays as it is (a normalised spectrum, Testud et al.
    2001: all are proportional to the number but zdr, a ratio). Where zh falls below 5 dBZ there is no echo left.

    Args:
        batch: In physical units.
        position: (b,) places of the samples in the run's endless stream; the factor follows from it and the seed alone.
        seed: Of the run.
        most_db: The factor is 10^(s/10), s uniform from −most_db to most_db.
    """
    drawn = most_db * (2 * uniform(keys_of(seed, _JITTER, position)) - 1)
    shift = torch.from_numpy(drawn).float()
    return replace(
        batch,
        radar=_radar(batch.radar, batch.variables, shift),
        rain=None if batch.rain is None else _multiplied(batch.rain, shift),
        target_zh=None if batch.target_zh is None else _shifted(batch.target_zh, shift),
        last_zh=None if batch.last_zh is None else _shifted(batch.last_zh, shift),
    )


def _radar(radar: Tensor, variables: tuple[str, ...], shift: Tensor) -> Tensor:
    """(b, t, v, z, y, x)"""
    made = dict(zip(variables, radar.unbind(2), strict=True))
    if "kdp" in made:
        made["kdp"] = _multiplied(made["kdp"], shift)
    if "zh" in made:
        zh = _shifted(made["zh"], shift)
        lost = (zh == 0) & (made["zh"] != 0)
        made = {name: field.masked_fill(lost, 0) for name, field in made.items()} | {"zh": zh}
    return torch.stack(list(made.values()), 2)


def _multiplied(field: Tensor, shift: Tensor) -> Tensor:
    return (field.float() * _like(10 ** (shift / 10), field)).to(field.dtype)


def _shifted(zh: Tensor, shift: Tensor) -> Tensor:
    """Fields (b, …) in dBZ; 0 is no echo, and what is missing (NaN) stays missing."""
    shifted = zh.float() + _like(shift, zh)
    return torch.where(zh == 0, 0.0, shifted.masked_fill(shifted < _FLOOR_DBZ, 0)).to(zh.dtype)


def _like(values: Tensor, field: Tensor) -> Tensor:
    """(b,) → (b, 1, …), as many dimensions as the field."""
    return values.view(-1, *[1] * (field.ndim - 1))

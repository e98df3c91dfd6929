"""Random augmentation of training samples: crops, flips and rotations, drop concentration."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.loading.permute import Indices, keys_of, uniform

# Separate random streams, derived from the one seed.
_CROP, _FLIP_ROTATE, _JITTER = 0x63726F70, 0x7475726E, 0x7468636B
_FLOOR_DBZ = 5.0
"""Reflectivity below which there is no echo, as in the archives."""


def crop(batch: Batch, position: Indices, seed: int, side: int) -> Batch:
    """Crop each sample to a square patch; its location depends only on the seed and the stream position.

    Args:
        batch: Batch of whole fields.
        position: (b,) positions of the samples in the infinite training stream.
        seed: Seed of the run.
        side: Side length of the patch in pixels, at most that of the fields.
    """
    height, width = batch.radar.shape[-2:]
    top = (keys_of(seed, _CROP, position) % np.uint64(height - side + 1)).astype(int)
    left = (keys_of(seed, _CROP + 1, position) % np.uint64(width - side + 1)).astype(int)
    patches = [(slice(y, y + side), slice(x, x + side)) for y, x in zip(top.tolist(), left.tolist(), strict=True)]
    return batch.map(lambda field: torch.stack([one[..., y, x] for one, (y, x) in zip(field, patches, strict=True)]))


def flip_rotate(batch: Batch, position: Indices, seed: int) -> Batch:
    """Transform each sample by one of the eight symmetries of a square, or one of four if fields are not square.

    Args:
        batch: Batch of fields (…, y, x); all fields of a sample are transformed alike.
        position: (b,) positions of the samples in the infinite training stream; only these and the seed determine the
            symmetry.
        seed: Seed of the run.
    """
    symmetries = (keys_of(seed, _FLIP_ROTATE, position) % np.uint64(8)).astype(int).tolist()
    return batch.map(lambda field: torch.stack([_transformed(f, s) for f, s in zip(field, symmetries, strict=True)]))


def _transformed(field: Tensor, symmetry: int) -> Tensor:
    axes = [axis for axis, bit in ((-1, 1), (-2, 2)) if symmetry & bit]
    flipped = field.flip(axes) if axes else field
    return flipped.mT if symmetry & 4 and field.shape[-1] == field.shape[-2] else flipped


def jitter_concentration(batch: Batch, position: Indices, seed: int, most_db: float) -> Batch:
    """Multiply the number of drops in each sample by a random factor, keeping the shape of the spectrum.

    This shifts zh, multiplies kdp and the rain rate, and keeps zdr. With a normalized spectrum (Testud et al. 2001),
    all of these are proportional to the drop number except zdr, which is a ratio. Echo below 5 dBZ is removed.

    Args:
        batch: Batch in physical units.
        position: (b,) positions of the samples in the infinite training stream; only these and the seed determine the
            factor.
        seed: Seed of the run.
        most_db: Maximum shift in dB; the factor is 10^(s/10), s uniform from −most_db to most_db.
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
    """Change the concentration in radar fields (b, t, v, z, y, x)."""
    fields = dict(zip(variables, radar.unbind(2), strict=True))
    if "kdp" in fields:
        fields["kdp"] = _multiplied(fields["kdp"], shift)
    if "zh" in fields:
        zh = _shifted(fields["zh"], shift)
        lost = (zh == 0) & (fields["zh"] != 0)
        fields = {name: field.masked_fill(lost, 0) for name, field in fields.items()} | {"zh": zh}
    return torch.stack(list(fields.values()), 2)


def _multiplied(field: Tensor, shift: Tensor) -> Tensor:
    return (field.float() * _like(10 ** (shift / 10), field)).to(field.dtype)


def _shifted(zh: Tensor, shift: Tensor) -> Tensor:
    """Shift fields (b, …) in dBZ; 0 is no echo, and missing values (NaN) stay missing."""
    shifted = zh.float() + _like(shift, zh)
    return torch.where(zh == 0, 0.0, shifted.masked_fill(shifted < _FLOOR_DBZ, 0)).to(zh.dtype)


def _like(values: Tensor, field: Tensor) -> Tensor:
    """Reshape (b,) to (b, 1, …) with as many dimensions as the field."""
    return values.view(-1, *[1] * (field.ndim - 1))

"""Apply perturbations to radar fields: pure functions of the fields, their archive and a key of random numbers.

Fill value 0 is no echo, and stays it, but within blocks of a coarser radar. Each variable has its own fill, because a
placebo takes zdr and kdp from other events. Echo of zh that falls below the floor of the archive is lost in all
variables; echo that was below it before stays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.degrade.perturbation import LOST, LOST_HEIGHT, Level, Perturbation
from polarcast.data.degrade.rays import Rays, rays_of
from polarcast.data.degrade.setup import RadarSetup
from polarcast.data.loading.permute import Keys, keys_of, uniform
from polarcast.data.synth.attainable import VARIABLES

VERSION = 1
"""Version of the definitions; raise it if one changes, so that scores are computed again."""
AH_LAW = (1.76e-5, 0.819)
ADP_LAW = (1.41e-7, 1.116)
"""One-way attenuation of zh and zdr in rain at C band, a · Z^b in dB/km with Z in mm⁶/m³.

Fitted to mean rates by reflectivity of the project's drop-size distribution and T-matrix table, 20 to 58 dBZ, within
11%. The ratio to kdp is 0.07 to 0.08 dB/deg, as published for C band (0.08, Py-ART's `_param_attphilinear_table`).
"""
_MOST_DBZ = 60.0
"""Clutter and hail above it do not attenuate more."""
ICE_KM = 4.5
"""Height from which echo is of ice, whose attenuation is negligible."""
BLOCKED_DB = 6.02
"""Loss in a sector where an obstacle takes half of the power, on the way out and back."""
_SECTORS = 6
"""Number of blocked sectors, evenly spaced, so that the result hardly depends on where storms come from."""
_NOISE, _SECTOR = 0x6E6F6973, 0x73656374
_NEAR_ZERO = 1e-3
"""Replaces a value of echo that would be 0, the fill value."""
_REFERENCE_DBZ, _MOST_GROWTH = 38.0, 4.0

Fields = dict[str, Tensor]
Turns = npt.NDArray[np.float64]
"""Directions as a share of a turn."""


@dataclass(frozen=True)
class Scene:
    """Where fields come from: heights, archive, and keys of random numbers.

    Attributes:
        heights_km: Heights along z.
        setup: Properties of the archive.
        keys: Key of each frame, (b, t).
        sectors: Direction of the first blocked sector of each sample, (b,) in turns.
    """

    heights_km: tuple[float, ...]
    setup: RadarSetup
    keys: Keys
    sectors: Turns

    @cached_property
    def in_rain(self) -> list[bool]:
        """Whether each height is below the ice."""
        return [height < ICE_KM for height in self.heights_km]


def fixed_sectors(samples: int) -> Turns:
    """Return the direction of the blocked sectors of a radar that is the same in all events, (samples,) in turns."""
    return np.repeat(uniform(keys_of(_SECTOR)), samples)


def drawn_sectors(keys: Keys) -> Turns:
    """Return a direction of the blocked sectors for each key, (b,) in turns."""
    return uniform(keys_of(_SECTOR, keys.view(np.int64)))


def degrade(fields: Mapping[str, Tensor], perturbation: Perturbation, scene: Scene) -> Fields:
    """Apply a perturbation to radar fields; without active steps, the same tensors are returned.

    Args:
        fields: Variable → (b, t, z, y, x) in dBZ, dB, deg/km; fill value 0.
        perturbation: What to apply, in the order of `KINDS`.
        scene: Origin of the fields.

    Raises:
        ValueError: attenuation without zh.
    """
    found = dict(fields)
    for name, level in perturbation.active.steps:
        found = STEPS[name](found, level, scene)
    return found


def _resolution(fields: Fields, level: Level, scene: Scene) -> Fields:
    """Average blocks of pixels: zh as power, the others over their echo, as `data.ingest` does."""
    block = int(float(level))
    zh = fields.get("zh")
    found = {name: _echo_mean(field, block) for name, field in fields.items() if name != "zh"}
    if zh is None:
        return found
    power = _block_mean(_power(zh), block)
    coarse = torch.where(power > 0, 10 * torch.log10(power.clamp(min=1e-30)), power)
    had_weak_echo = _block_mean(((zh != 0) & (zh < scene.setup.floor_dbz)).to(zh), block) > 0
    is_lost = (coarse < scene.setup.floor_dbz) & ~had_weak_echo
    return {name: field.masked_fill(is_lost, 0) for name, field in {**found, "zh": _kept(power, coarse)}.items()}


def _attenuation(fields: Fields, level: Level, scene: Scene) -> Fields:
    """Reduce zh and zdr by a share of the two-way attenuation from the radar to each pixel, in rain."""
    if "zh" not in fields:
        raise ValueError("attenuation is computed from zh")
    share, z = float(level), _power(fields["zh"], most_dbz=_MOST_DBZ)
    is_rain = torch.tensor(scene.in_rain, device=z.device)[:, None, None]
    rays = _rays(z)

    def loss(law: tuple[float, float]) -> Tensor:
        rate = torch.where(is_rain, law[0] * z ** law[1], 0)
        return -share * rays.path_integral(rate, scene.setup.spacing_km)

    found = {**fields, "zh": _shifted(fields["zh"], loss(AH_LAW))}
    if "zdr" in fields:
        found["zdr"] = _shifted(fields["zdr"], loss(ADP_LAW))
    return _without_lost(found, fields["zh"], scene)


def _blockage(fields: Fields, level: Level, scene: Scene) -> Fields:
    """Reduce zh at the lowest height by 6 dB in sectors that add up to a share of all azimuths; zdr and kdp stay."""
    if "zh" not in fields:
        return fields
    zh = fields["zh"]
    start = torch.from_numpy(scene.sectors).to(zh)[:, None, None]
    within = (_rays(zh).azimuth.to(zh) - start) % (1 / _SECTORS)
    is_blocked = (within <= float(level) / _SECTORS)[:, None, None]
    lowest = torch.tensor([z == min(scene.heights_km) for z in scene.heights_km], device=zh.device)[:, None, None]
    shifted = _shifted(zh, torch.where(is_blocked & lowest, -BLOCKED_DB, 0.0).to(zh))
    return _without_lost({**fields, "zh": torch.where(is_blocked & lowest, shifted, zh)}, zh, scene)


def _zh_bias(fields: Fields, level: Level, scene: Scene) -> Fields:
    if "zh" not in fields:
        return fields
    return _without_lost({**fields, "zh": _shifted(fields["zh"], float(level))}, fields["zh"], scene)


def _zdr_bias(fields: Fields, level: Level, scene: Scene) -> Fields:
    return {**fields, "zdr": _shifted(fields["zdr"], float(level))} if "zdr" in fields else fields


def _noise(fields: Fields, level: Level, scene: Scene) -> Fields:
    """Add correlated noise, so that the total noise is `level` times that of the archive."""
    factor = np.sqrt(float(level) ** 2 - 1)
    zh, setup = fields.get("zh"), scene.setup
    below = 0.0 if zh is None else ((_REFERENCE_DBZ - zh) / 10).clamp(0, _MOST_GROWTH)
    found = dict(fields)
    for name, field in fields.items():
        error = _correlated(name, field, scene) * (factor * setup.noise[name])
        found[name] = _shifted(field, error * setup.noise_growth[name] ** below)
    return found if zh is None else _without_lost(found, zh, scene)


def _correlated(name: str, field: Tensor, scene: Scene) -> Tensor:
    """Draw standard normal errors (b, t, z, y, x), correlated over three pixels as in `data.synth.observe`."""
    white = np.empty(field.shape, np.float32)
    for b, t, z in np.ndindex(*field.shape[:3]):
        height = round(1000 * scene.heights_km[z])
        key = keys_of(_NOISE, scene.keys[b, t].view(np.int64), VARIABLES.index(name), height)
        white[b, t, z] = np.random.Generator(np.random.Philox(key=int(key[0]))).standard_normal(field.shape[3:], "f4")
    errors = torch.from_numpy(white)
    for axis in (-1, -2):
        middle = [errors.narrow(axis, first, errors.shape[axis] - 2) for first in (0, 1, 2)]
        smooth = (middle[0] + 2 * middle[1] + middle[2]) * 6**-0.5
        ends = [errors.narrow(axis, first, 1) for first in (0, errors.shape[axis] - 1)]
        errors = torch.cat([ends[0], smooth, ends[1]], axis)
    return errors.to(field)


def _kdp_smoothing(fields: Fields, level: Level, scene: Scene) -> Fields:
    if "kdp" not in fields:
        return fields
    return {**fields, "kdp": _rays(fields["kdp"]).range_mean(fields["kdp"], int(float(level)))}


def _lost(fields: Fields, level: Level, scene: Scene) -> Fields:
    return {name: torch.zeros_like(field) if name == level else field for name, field in fields.items()}


def _lost_height(fields: Fields, level: Level, scene: Scene) -> Fields:
    lost = [height == level for height in scene.heights_km]
    return {
        name: field.masked_fill(torch.tensor(lost, device=field.device)[:, None, None], 0)
        for name, field in fields.items()
    }


STEPS: dict[str, Callable[[Fields, Level, Scene], Fields]] = {
    "resolution": _resolution,
    "attenuation": _attenuation,
    "blockage": _blockage,
    "zh_bias": _zh_bias,
    "zdr_bias": _zdr_bias,
    "noise": _noise,
    "kdp_smoothing": _kdp_smoothing,
    LOST: _lost,
    LOST_HEIGHT: _lost_height,
}


def _rays(field: Tensor) -> Rays:
    return rays_of((field.shape[-2], field.shape[-1]), field.device)


def _power(zh: Tensor, most_dbz: float = torch.inf) -> Tensor:
    """Return Z in mm⁶/m³; 0 without echo."""
    return torch.where((zh == 0) | zh.isnan(), 0.0, 10 ** (zh.clamp(max=most_dbz) / 10))


def _shifted(field: Tensor, by: Tensor | float) -> Tensor:
    """Add to echo; fill stays fill."""
    return _kept(field, field + by)


def _kept(before: Tensor, after: Tensor) -> Tensor:
    """Return new values of echo; fill stays fill, and no echo becomes fill."""
    return torch.where(before == 0, 0.0, torch.where(after == 0, _NEAR_ZERO, after))


def _without_lost(fields: Fields, zh: Tensor, scene: Scene) -> Fields:
    """Remove echo that fell below the floor, from all variables.

    Args:
        fields: Perturbed fields, with zh.
        zh: zh before.
        scene: Origin of the fields.
    """
    floor = scene.setup.floor_dbz
    is_lost = (zh != 0) & (zh >= floor) & (fields["zh"] < floor)
    return {name: field.masked_fill(is_lost, 0) for name, field in fields.items()}


def _block_mean(field: Tensor, block: int) -> Tensor:
    """Average blocks of pixels of fields (…, y, x), smaller ones at the far edges, on the same grid."""
    flat = field.flatten(0, -3)
    mean = F.avg_pool2d(flat, block, ceil_mode=True, count_include_pad=False)
    fine = mean.repeat_interleave(block, -2).repeat_interleave(block, -1)
    return fine[..., : field.shape[-2], : field.shape[-1]].reshape(field.shape)


def _echo_mean(field: Tensor, block: int) -> Tensor:
    """Average the echo in blocks of pixels; a block without echo stays without."""
    share = _block_mean((field != 0).to(field), block)
    return _kept(share, _block_mean(field, block) / share.clamp(min=1e-9))

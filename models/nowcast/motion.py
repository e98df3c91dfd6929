"""Motion of echo from frame to frame, and echo carried along it, on tensors: cheap enough for every training step.

The baselines' motion is that of pysteps, which follows features, one window after another on the CPU. This one is
dense, for batches on any device; no gradient goes through it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_SCALES = (8, 4)
"""Pixels averaged into one, from coarse to fine: storms move up to ten pixels a frame, and are wider than that."""
_ITERATIONS = 3
_RADIUS = 24
"""Pixels around each over which motion is taken to be one."""
_PRIOR = 0.02
"""Weight of the whole grid's motion beside that of the neighbourhood, which may hold no echo."""
_HALF_LIFE = 3.0
"""Frames after which a pair of them counts half as much: motion is steady for as long as it takes to find it only."""
_LARGEST_STEP = 2.0
"""Coarse pixels that one iteration may correct: beyond, the field isn't linear."""
_TINY = 1e-6


@torch.no_grad()
def motion(frames: Tensor) -> Tensor:
    """Motion through all frames, of which the newest count most (Lucas & Kanade 1981, coarse to fine).

    Args:
        frames: (n, t, y, x) with t ≥ 2, scaled to 0 to 1, finite.

    Returns:
        (n, 2, y, x), along x and y, in pixels a frame; 0 where nothing has moved at all.
    """
    n, _, y, x = frames.shape
    found, last = frames.new_zeros(n, 2, 1, 1), 1
    for scale in [s for s in _SCALES if min(y, x) >= 2 * s]:
        coarse = F.avg_pool2d(frames, scale)
        found = F.interpolate(found, coarse.shape[-2:], mode="bilinear") * (last / scale)
        for _ in range(_ITERATIONS):
            found = _smooth(found + _correction(coarse, found, _RADIUS // scale), 1)
        last = scale
    return F.interpolate(found, (y, x), mode="bilinear") * last


def way_back(along: Tensor, frames: int) -> Tensor:
    """From where echo arrives to where it was 1, 2, … frames before, in steady motion.

    Echo follows the motion around bends (semi-Lagrangian; Germann & Zawadzki 2002, §3b): going back in one straight
    line from where it arrives costs a real sequence a tenth of its CSI of 20 dBZ at an hour. Motion is smooth: it is
    followed on coarse pixels, from the middle of each step.

    Args:
        along: (n, 2, y, x), along x and y, in pixels a frame.
        frames: Number of frames.

    Returns:
        (n, frames, 2, y, x), in pixels.
    """
    y, x = along.shape[-2:]
    coarse = [-(-side // _SCALES[-1]) for side in (y, x)]
    to_pixels = along.new_tensor([x / coarse[1], y / coarse[0]]).view(2, 1, 1)
    velocity = F.interpolate(along, coarse, mode="area") / to_pixels
    back, ways = torch.zeros_like(velocity), []
    for _ in range(frames):
        halfway = back + _moved(velocity, back, "border") / 2
        back = back + _moved(velocity, halfway, "border")
        ways.append(F.interpolate(back * to_pixels, (y, x), mode="bilinear"))
    return torch.stack(ways, 1)


def carried(fields: Tensor, way: Tensor) -> Tensor:
    """Fields in which each pixel shows what is upstream of it.

    Args:
        fields: (n, c, y, x).
        way: (n, frames, 2, y, x), as of `way_back`.

    Returns:
        (n, frames, c, y, x), interpolated linearly; what comes from outside is 0.
    """
    source = fields[:, None].expand(-1, way.shape[1], -1, -1, -1)
    return _moved(source.flatten(0, 1), way.flatten(0, 1)).view(source.shape)


def _correction(frames: Tensor, along: Tensor, radius: int) -> Tensor:
    """What to add to motion so that each frame, moved, is nearest to the next: least squares in a neighbourhood."""
    n, t, y, x = frames.shape
    by = along[:, None].expand(-1, t - 1, -1, -1, -1).flatten(0, 1)
    before = _moved(frames[:, :-1].flatten(0, 1)[:, None], by)
    before, after = before.view(n, t - 1, y, x), frames[:, 1:]
    # Where moved on by d more, a frame is before − gradient · d.
    along_y, along_x = torch.gradient((before + after) / 2, dim=(-2, -1))
    products = (along_x**2, along_x * along_y, along_y**2, along_x * (before - after), along_y * (before - after))
    weight = 0.5 ** (torch.arange(t - 2, -1, -1).to(frames) / _HALF_LIFE).view(-1, 1, 1)
    sums = _smooth(torch.stack([(weight * product).sum(1) for product in products], 1), radius)
    xx, xy, yy, xd, yd = (sums + _PRIOR * sums.mean((-2, -1), keepdim=True)).unbind(1)
    xx, yy = xx + _TINY, yy + _TINY
    step = torch.stack([yy * xd - xy * yd, xx * yd - xy * xd], 1) / (xx * yy - xy**2)[:, None]
    return step.clamp(-_LARGEST_STEP, _LARGEST_STEP)


def _moved(fields: Tensor, by: Tensor, beyond: str = "zeros") -> Tensor:
    """(n, c, y, x) moved by (n, 2, y, x) pixels; `beyond` the edge there are zeros, or what the `border` has."""
    y, x = fields.shape[-2:]
    here = torch.stack(torch.meshgrid(torch.arange(x), torch.arange(y), indexing="xy")).to(by)
    # As grid_sample counts: −1 and 1 are the outer edges of the first and the last pixel.
    grid = (2 * (here - by).permute(0, 2, 3, 1) + 1) / by.new_tensor([x, y]) - 1
    return F.grid_sample(fields, grid, padding_mode=beyond, align_corners=False)


def _smooth(fields: Tensor, radius: int) -> Tensor:
    """Averages over a neighbourhood, twice, so that its edge is soft."""
    width = 2 * radius + 1
    for size, margin in 2 * [((width, 1), (radius, 0)), ((1, width), (0, radius))]:
        fields = F.avg_pool2d(fields, size, 1, margin, count_include_pad=False)
    return fields

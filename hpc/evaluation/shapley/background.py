"""Windows to explain, and their background: donors, windows of other groups of events that stand in for absent players.

Marginal imputation draws donors at random, so that absent players are independent of the present ones, as in SHAP
(Lundberg & Lee 2017) and the marginal form of SAGE. Conditional imputation takes the windows whose present players
resemble those of the window most, so that absent players stay plausible: the empirical conditional distribution of Aas,
Jullum & Løland (2021, section 3.3), with their scaled distance and equal weights of the nearest windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import Reader
from polarcast.hpc.evaluation.shapley.players import Players
from polarcast.hpc.runs.build import scoring_batch
from polarcast.hpc.scores.stats.shapley import membership

MARGINAL, CONDITIONAL = "marginal", "conditional"
IMPUTATIONS = (MARGINAL, CONDITIONAL)
CANDIDATES = 512
"""Most windows that conditional donors are chosen from, drawn at random over groups."""
_CELLS = 16
"""Cells per side at which fields are compared: storms of the same place and size count as alike."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Windows that are explained together.

    Attributes:
        windows: Numbers of the windows, (w,).
        donors: Numbers of each window's donors, (w, d), or of each coalition of its players, (w, 2^n, d).
        is_mutual: Whether all donors are windows of the block, and each window is a donor of its own donors.
    """

    windows: Indices
    donors: Indices = field(repr=False)
    is_mutual: bool = False

    def donors_in(self, coalition: int) -> Indices:
        """Return the donors of each window if a coalition is present, (w, d)."""
        return self.donors if self.donors.ndim == 2 else self.donors[:, coalition]


def groups_of(reader: Reader) -> Indices:
    """Return the number of the group of each window of a split, (windows,)."""
    events, event = np.unique(reader.events(), return_inverse=True)
    names = [reader.manifest.group_of(number) for number in events.tolist()]
    return np.unique(names, return_inverse=True)[1][event]


def drawn_over_groups(groups: Indices, number: int, rng: np.random.Generator) -> Indices:
    """Draw different windows, one of each group, then a second of each, and so on; all windows if there are fewer."""
    shuffled = rng.permutation(len(groups))
    order = rng.permutation(groups.max() + 1)
    position = np.zeros(len(groups), np.int64)
    for group in order:
        of_group = shuffled[groups[shuffled] == group]
        position[of_group] = np.arange(len(of_group))
    ranked = np.lexsort((np.argsort(order)[groups], position))
    return ranked[:number]


def marginal_blocks(groups: Indices, explained: Indices, size: int, rng: np.random.Generator) -> list[Block]:
    """Give each window `size` donors of other groups at random.

    As far as possible, windows of different groups are each other's donors, for one evaluation then serves two
    coalitions: with the present players of x and the absent ones of b, it is coalition S of x and the rest of b.

    Args:
        groups: Group of each window of the split, (windows,).
        explained: Windows to explain, in random order.
        size: Number of donors of each window.
        rng: Random numbers.

    Raises:
        BadInput: the windows are of one group.
    """
    if len(np.unique(groups)) < 2:
        what = "absent players come from other groups of events, and there is one group only"
        raise BadInput(what, "--split", "use shards with more groups")
    mutual, rest = _mutual_blocks(groups, explained, size)
    blocks = [Block(block, _others_of(block, groups), is_mutual=True) for block in mutual]
    for start in range(0, len(rest), size + 1):
        chosen = rest[start : start + size + 1]
        blocks.append(Block(chosen, np.stack([_drawn_donors(groups, window, size, rng) for window in chosen])))
    return blocks


def _mutual_blocks(groups: Indices, explained: Indices, size: int) -> tuple[list[Indices], Indices]:
    """Divide windows into blocks in which each has `size` windows of other groups; return the blocks and the rest.

    A block has k groups of r windows, (k − 1) · r = size, with as many groups as possible.
    """
    left = {group: explained[groups[explained] == group].tolist() for group in groups[explained].tolist()}
    others = max((k for k in range(1, size + 1) if size % k == 0 and k < len(left)), default=0)
    blocks: list[Indices] = []
    while others:
        each = size // others
        fullest = sorted(left, key=lambda group: -len(left[group]))[: others + 1]
        if len(left[fullest[-1]]) < each:
            break
        blocks.append(np.array([left[group].pop(0) for group in fullest for _ in range(each)]))
    rest = [window for windows in left.values() for window in windows]
    return blocks, np.array(rest, dtype=np.int64)


def _others_of(block: Indices, groups: Indices) -> Indices:
    """Return for each window of a block those of other groups, (w, size)."""
    return np.stack([block[groups[block] != groups[window]] for window in block])


def _drawn_donors(groups: Indices, window: int, size: int, rng: np.random.Generator) -> Indices:
    """Draw donors of a window over the other groups; again and again the same ones if there are fewer than `size`."""
    others = np.flatnonzero(groups != groups[window])
    return np.resize(others[drawn_over_groups(groups[others], size, rng)], size)


def conditional_blocks(
    reader: Reader, groups: Indices, explained: Indices, size: int, players: Players, rng: np.random.Generator
) -> list[Block]:
    """Give each window and coalition the `size` windows of other groups that resemble its present players most.

    The distance of two windows is the mean over the present players' fields of the mean squared difference of block
    averages, each divided by the variance of its variable and height over all candidates. It weights fields equally, as
    Aas et al. divide their Mahalanobis distance by the number of present features; covariances are left out, because
    there are fewer windows than values. Without present players, or at equal distance, donors are drawn at random.

    Raises:
        BadInput: the windows are of one group.
    """
    marginal_blocks(groups, explained[:1], 1, np.random.default_rng(0))  # checks the number of groups
    pool = drawn_over_groups(groups, CANDIDATES, rng)
    fields, own = _coarse(reader, pool), _coarse(reader, explained)
    scale = fields.square().mean((0, 1, 4)) - fields.mean((0, 1, 4)).square()
    scale = torch.where(scale > 0, scale, 1)[None, None, :, :, None]
    present = torch.from_numpy(membership(len(players)).astype(np.float64))
    by_player = torch.from_numpy(players.masks.astype(np.float64)).flatten(1)
    sizes = present.T @ by_player.sum(1)
    blocks: list[Block] = []
    for start in range(0, len(explained), size + 1):
        chosen = explained[start : start + size + 1]
        donors = []
        for window, values in zip(chosen.tolist(), own[start : start + size + 1], strict=True):
            apart = ((fields - values).square() / scale).mean(-1).flatten(1).double()
            # (2^n, candidates)
            distance = (present.T @ (by_player @ apart.T) / sizes.clamp(min=1)[:, None]).numpy()
            donors.append(_nearest(distance, pool, groups, window, size, rng))
        blocks.append(Block(chosen, np.stack(donors)))
    return blocks


def _nearest(
    distance: npt.NDArray[np.float64], pool: Indices, groups: Indices, window: int, size: int, rng: np.random.Generator
) -> Indices:
    """Return the nearest candidates of other groups for each coalition, (2^n, size); ties are broken at random."""
    others = rng.permutation(np.flatnonzero(groups[pool] != groups[window]))
    order = np.argsort(distance[:, others], axis=1, kind="stable")[:, :size]
    found = pool[others[order]]
    return found if found.shape[1] == size else np.stack([np.resize(row, size) for row in found])


def _coarse(reader: Reader, windows: Indices) -> torch.Tensor:
    """Return block averages of the fields of windows, (w, t, v, z, cells) float32."""
    parts: list[torch.Tensor] = []
    size = scoring_batch(reader.manifest)
    for start in range(0, len(windows), size):
        radar = reader.read(windows[start : start + size]).to("cpu").radar
        side = min(_CELLS, *radar.shape[-2:])
        coarse = F.adaptive_avg_pool2d(radar.flatten(0, 3)[:, None], side)
        parts.append(coarse.reshape(*radar.shape[:4], side * side))
    return torch.cat(parts)


def radars_of(reader: Reader, windows: Sequence[int] | Indices, device: str) -> torch.Tensor:
    """Return the radar fields of windows on a device, (w, t, v, z, y, x) float32."""
    return reader.read(windows).to(device).radar

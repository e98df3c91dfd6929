"""Players: groups of input fields that are present or absent together, as masks over frames, variables and heights."""

import re
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polarcast.data.arguments import text_of
from polarcast.data.errors import BadInput, shown
from polarcast.hpc.scores.stats.shapley import membership
from polarcast.models.forecaster import InputSpec

CHANNELS, VARIABLES, HEIGHTS, TIMES = "channels", "variables", "heights", "times"
USUAL = {"qpe": CHANNELS, "nowcast": VARIABLES}
"""Players by task, unless others are asked for."""
MOST_PLAYERS = 14
"""Most players; each more doubles the coalitions."""
_WHERE = "--players"
_TIMES = re.compile(r"times(?:=([0-9]{1,4}))?")
_FIX = "give channels, variables, heights, times, or products such as variables*times=2"


@dataclass(frozen=True)
class Players:
    """Players of a model's input; each input field belongs to exactly one.

    Attributes:
        text: The players as asked for, such as `variables*times=2`.
        names: Name of each player.
        masks: Fields of each player, (n, t, v, z) bool.
    """

    text: str
    names: tuple[str, ...]
    masks: npt.NDArray[np.bool_] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def coalitions(self) -> int:
        """Number of coalitions, 2^n."""
        return 1 << len(self)

    def fields_of(self, coalition: int) -> npt.NDArray[np.bool_]:
        """Return the fields of the players who are present, (t, v, z); bit i of the coalition is player i."""
        present = np.flatnonzero(membership(len(self))[:, coalition])
        found: npt.NDArray[np.bool_] = np.logical_or.reduce(self.masks[present], axis=0)
        return found

    def means_of(self, radar: Tensor) -> Tensor:
        """Return the mean of each player's fields at each pixel of radar (b, t, v, z, y, x), as (b, n, y, x)."""
        weights = torch.from_numpy(self.masks / self.masks.sum((1, 2, 3), keepdims=True)).to(radar)
        return torch.einsum("ntvz,btvzyx->bnyx", weights, radar)


def players_of(text: str, inputs: InputSpec) -> Players:
    """Divide the input of a model into players.

    Args:
        text: Axes joined by `*`: `variables`, `heights`, `times` (each frame) or `times=k` (k groups of successive
            frames), or `channels`, which is variables*heights.
        inputs: Variables, heights and frames of the model.

    Raises:
        BadInput: the text is not of this form, or the input has one player or more than `MOST_PLAYERS`.
    """
    axes = [axis.strip() for axis in text_of(text, _WHERE, CHANNELS).split("*")]
    is_plain = axes == [CHANNELS]
    axes = [part for axis in axes for part in ((VARIABLES, HEIGHTS) if axis == CHANNELS else (axis,))]
    kinds = [axis.partition("=")[0] for axis in axes]
    if len(set(kinds)) < len(kinds):
        raise BadInput(f"{shown(text)} names an axis twice", _WHERE, _FIX)
    parts = [_parts(axis, inputs) for axis in axes]
    for axis, found in zip(axes, parts, strict=True):
        if len(found) < 2 and not is_plain:
            raise BadInput(f"{axis} divides the input into one player, {found[0][0]}", _WHERE, "choose other players")
    if (number := int(np.prod([len(found) for found in parts]))) < 2:
        raise BadInput(f"the input has one field, {parts[0][0][0]}", _WHERE, "choose a run with more")
    if number > MOST_PLAYERS:
        what = f"{number} players have {2**number:,} coalitions, too many"
        raise BadInput(what, _WHERE, f"choose at most {MOST_PLAYERS} players, such as variables")
    chosen = list(product(*parts))
    masks = np.stack([np.logical_and.reduce([mask for _, mask in of]) for of in chosen])
    return Players(text, tuple(" ".join(name for name, _ in of) for of in chosen), masks)


_Part = tuple[str, npt.NDArray[np.bool_]]
"""Name and fields (t, v, z) of one part of the input."""


def _parts(axis: str, inputs: InputSpec) -> list[_Part]:
    """Divide the input along one axis."""
    if axis == VARIABLES:
        return [_part(inputs, name, v=k) for k, name in enumerate(inputs.variables)]
    if axis == HEIGHTS:
        return [_part(inputs, f"{height:g} km", z=k) for k, height in enumerate(inputs.heights_km)]
    if not (found := _TIMES.fullmatch(axis)):
        raise BadInput(f"unknown players {shown(axis)}", _WHERE, _FIX)
    groups = int(found[1]) if found[1] else inputs.frames
    groups = 1 if inputs.frames == 1 else groups
    if not 1 <= groups <= inputs.frames:
        raise BadInput(f"{groups} groups of {inputs.frames} input frames", _WHERE, f"give 2 to {inputs.frames}")
    spans = np.array_split(np.arange(inputs.frames), groups)
    return [_part(inputs, _span_name(span), t=span) for span in spans]


def _span_name(span: npt.NDArray[np.int64]) -> str:
    first, last = int(span[0]) + 1, int(span[-1]) + 1
    return f"frame {first}" if first == last else f"frames {first}–{last}"


def _part(inputs: InputSpec, name: str, t: Any = slice(None), v: Any = slice(None), z: Any = slice(None)) -> _Part:
    mask = np.zeros((inputs.frames, len(inputs.variables), len(inputs.heights_km)), bool)
    mask[t, v, z] = True
    return name, mask


def folder_name(text: str) -> str:
    """Return players as part of a folder's name: `variables*times=2` → `variables-times2`."""
    return text.replace(" ", "").replace("*", "-").replace("=", "")

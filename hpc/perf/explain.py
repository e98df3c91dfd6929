"""Time of exact Shapley values of forecasts compared with shap, captum and shapiq, for the same answer."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, device_of, set_up_torch
from polarcast.hpc.evaluation.shapley.coalitions import CoalitionForecasts, Explained
from polarcast.hpc.evaluation.shapley.players import CHANNELS, Players, players_of
from polarcast.hpc.perf.measure import Measured, PerfRow, Run, interleaved, machine, ratio
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.estimate import example_batch
from polarcast.models.forecaster import Forecaster

OURS, SHAP, SHAP_MEAN, CAPTUM, SHAPIQ = "polarcast", "shap", "shap on means", "captum", "shapiq"
OTHERS = (SHAP, SHAP_MEAN, CAPTUM, SHAPIQ)
LIBRARIES = (SHAP, CAPTUM, SHAPIQ)
_UNIT = "windows/s"
_AGREE = 1e-4
"""Largest difference from polarcast, as a share of the largest attribution: rounding of single precision."""
_BATCHES = (4, 8, 16, 32, 64, 128)
"""Windows of a forward pass that are tried for the libraries, on some coalitions."""
_COALITIONS_TRIED = 32

Values = npt.NDArray[np.floating[Any]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class WindowGame:
    """The value function that all libraries receive: the mean forecast over the background, from who is present.

    Attributes:
        model: The model, in evaluation mode.
        players: The players.
        batch: The windows, each of which has all others as its background.
        at_once: Most windows of a forward pass.
        threads: Threads of a forward pass.
    """

    model: Forecaster
    players: Players
    batch: Batch
    at_once: int = 32
    threads: int = 1

    @property
    def donors(self) -> npt.NDArray[np.int64]:
        """Background of each window, (w, w − 1)."""
        every = np.arange(len(self.batch))
        return np.stack([every[every != window] for window in every])

    def values(self, window: int, present: Tensor) -> Tensor:
        """Return the forecasts of a window for several coalitions, (c, y · x), from who is present, (c, n)."""
        others = torch.from_numpy(self.donors[window])
        masks = torch.from_numpy(self.players.masks)
        fields = torch.einsum("cn,ntvz->ctvz", present.to(torch.float32), masks.float()).bool()[..., None, None]
        coalition, donor = (of.flatten() for of in torch.meshgrid(torch.arange(len(present)), others, indexing="ij"))
        found = []
        for c, d in zip(coalition.split(self.at_once), donor.split(self.at_once), strict=True):
            found.append(self._forecast(window, torch.where(fields[c], self.batch.radar[window], self.batch.radar[d])))
        return torch.cat(found).unflatten(0, (len(present), len(others))).mean(1)

    def forecasts(self, window: int, radar: npt.NDArray[np.float32]) -> Values:
        """Return the forecasts of a window with other fields (c, t, v, z, y, x), (c, y · x)."""
        found = [self._forecast(window, part) for part in torch.from_numpy(radar).split(self.at_once)]
        return torch.cat(found).cpu().numpy()

    @torch.inference_mode()
    def _forecast(self, window: int, radar: Tensor) -> Tensor:
        event, frame = (of[window].expand(len(radar)) for of in (self.batch.event, self.batch.frame))
        fields = radar.to(self.batch.radar.device)
        one = Batch(fields, None, event, frame, self.batch.variables, self.batch.heights_km)
        return self.model.forecast(one).flatten(1)


def measure_explain(
    config: RunConfig, size: int, background: int, rounds: int, on_round: Callable[[int], None] | None = None
) -> Measured:
    """Time attributions of all pixels to all input channels, with untrained weights.

    The libraries get the fastest of several batch sizes and numbers of threads. captum evaluates every order of the
    players, so that it explains one window in each round; shapiq values one number a game, so that it explains the mean
    rain of a window. All others explain background + 1 windows, each of which is background of the others.

    Args:
        config: Configuration of a QPE model without random numbers.
        size: Pixels per side.
        background: Number of windows that absent players are taken from.
        rounds: Measured rounds, after one warm-up round.
        on_round: Called with the number of rounds done.

    Raises:
        BadInput: a library is not installed, or the model is generative or forecasts several fields.
        ValueError: results differ by more than rounding.
    """
    if missing := [name for name in LIBRARIES if find_spec(name) is None]:
        raise BadInput(f"{missing[0]} is not installed", "perf explain", f"pip install {' '.join(LIBRARIES)}")
    set_up_torch(config.train.threads, World())
    game = _tuned(_game(config, size, background))
    works = contenders(game)
    notes = agreement(works)
    runs = {name: _counted(work, 1 if name == CAPTUM else len(game.batch)) for name, work in works.items()}
    rows = interleaved(runs, rounds, _UNIT, on_round)
    ratios = {f"{OURS} / {name}": ratio(rows, OURS, name) for name in OTHERS}
    n = len(game.players)
    notes |= {
        **{f"quartiles of {OURS} / {name}": _quartiles(rows, name) for name in OTHERS},
        "network": f"{config.model['name']}, {n} players, {size} × {size} pixels, background of {background} windows",
        "libraries": f"{game.at_once} windows in a forward pass on {game.threads} threads, the fastest of "
        f"{', '.join(map(str, _BATCHES))} windows on 1 or all",
        "forecasts for a window": ", ".join(f"{name} {_forecasts(name, n, background)}" for name in (OURS, *OTHERS)),
    }
    return Measured("explain", machine(), rows, ratios, notes)


def contenders(game: WindowGame) -> dict[str, Callable[[], Values]]:
    """Return the functions that compute the attributions, (w, n, y · x); captum's of the first window, (1, n, y · x);
    shapiq's of the mean of each window, (w, n).
    """  # fmt: skip
    libraries = {SHAP: _shap, SHAP_MEAN: _shap_on_means, CAPTUM: _captum, SHAPIQ: _shapiq}
    ours = {OURS: partial(_ours, game)}
    return ours | {name: partial(_with_threads, game.threads, partial(of, game)) for name, of in libraries.items()}


def agreement(works: Mapping[str, Callable[[], Values]]) -> dict[str, str]:
    """Return the largest difference of each library from polarcast, as a share of the largest attribution.

    Raises:
        ValueError: a difference is larger than rounding.
    """
    ours = works[OURS]()
    notes = {}
    for name in works:
        if name == OURS:
            continue
        theirs = works[name]()
        same = ours.mean(-1) if name == SHAPIQ else ours[: len(theirs)]
        difference = float(np.abs(same - theirs).max() / np.abs(same).max())
        if not difference <= _AGREE:
            raise ValueError(f"{name} differs from polarcast by {difference:.1e}: the timings are not comparable")
        notes[f"largest relative difference, {name}"] = f"{difference:.1e}"
    return notes


def _game(config: RunConfig, size: int, background: int) -> WindowGame:
    resolved = resolve(config)
    if resolved.inputs.lead_frames:
        raise BadInput("forecasts of several frames", "task", "give a QPE model, such as the preset demo")
    model = _raining(build_model(resolved)).to(device_of(World())).eval()
    batch = example_batch(resolved.inputs, (size, size), background + 1)
    generator = torch.Generator().manual_seed(0)
    radar = 50 * torch.rand(batch.radar.shape, generator=generator)
    batch = replace(batch, radar=radar, event=torch.arange(len(radar))).to(device_of(World()))
    game = WindowGame(model, players_of(CHANNELS, resolved.inputs), batch)
    if CoalitionForecasts(model, game.players).uses_noise(batch):
        raise BadInput(f"{config.model['name']} samples", "model.name", "give a model that returns one estimate")
    return game


def _raining(model: Forecaster) -> Forecaster:
    """Change the last layer, for untrained networks estimate hardly any rain, and the same from all inputs."""
    *_, weight, bias = model.parameters()
    with torch.no_grad():
        weight.mul_(10)
        bias.fill_(2)
    return model


def _tuned(game: WindowGame) -> WindowGame:
    """Return the game with the batch size and the number of threads that evaluate coalitions of a window fastest."""
    present = _all_coalitions(len(game.players))[:_COALITIONS_TRIED]
    choices = [replace(game, at_once=size, threads=n) for size in _BATCHES for n in {1, torch.get_num_threads()}]
    works = [partial(_with_threads, of.threads, partial(of.values, 0, present)) for of in choices]
    seconds = [min(_seconds(work) for _ in range(3)) for work in works]
    return choices[int(np.argmin(seconds))]


def _with_threads(threads: int, work: Callable[[], Result]) -> Result:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _ours(game: WindowGame) -> Values:
    explained = Explained(game.batch, game.batch.radar, game.donors, is_mutual=True)
    return CoalitionForecasts(game.model, game.players).attributions(explained).flatten(2).cpu().numpy()


def _shap(game: WindowGame) -> Values:
    """As documented: a masker returns the rows of the background, whose forecasts shap averages."""
    import shap

    fields, masks = game.batch.radar.cpu().numpy(), game.players.masks
    found = []
    for window, donors in enumerate(game.donors):

        def masker(mask: npt.NDArray[np.bool_], _: object, own: int = window, others: Any = donors) -> Any:
            present = np.logical_or.reduce(masks[mask], axis=0)[..., None, None]
            return np.where(present, fields[own], fields[others])

        masker.shape = (len(donors), len(masks))  # type: ignore[attr-defined]
        masker.immutable_outputs = True  # type: ignore[attr-defined]
        explainer = shap.ExactExplainer(partial(game.forecasts, window), masker)
        masks_at_once = max(1, game.at_once // len(donors))
        everyone = np.ones((1, len(masks)), bool)
        found.append(explainer(everyone, batch_size=masks_at_once, silent=True).values[0])
    return np.stack(found)


def _shap_on_means(game: WindowGame) -> Values:
    """With the mean over the background as the model, which spares shap all copies of fields."""
    import shap

    def masker(mask: npt.NDArray[np.bool_], _: object) -> npt.NDArray[np.bool_]:
        return mask[None]

    masker.shape = (1, len(game.players))  # type: ignore[attr-defined]
    everyone = np.ones((1, len(game.players)), bool)
    found = []
    for window in range(len(game.batch)):
        explainer = shap.ExactExplainer(partial(_numpy_values, game, window), masker)
        found.append(explainer(everyone, batch_size=2 ** len(game.players), silent=True).values[0])
    return np.stack(found)


def _captum(game: WindowGame) -> Values:
    from captum.attr import ShapleyValues

    everyone = torch.ones(1, len(game.players))
    explainer = ShapleyValues(lambda present: game.values(0, present))
    found = explainer.attribute(everyone, perturbations_per_eval=len(game.players))
    return found.transpose(1, 2).numpy()


def _shapiq(game: WindowGame) -> Values:
    from shapiq import ExactComputer

    n, found = len(game.players), []
    for window in range(len(game.batch)):
        computer = ExactComputer(partial(_mean_values, game, window), n)
        found.append(computer("SV", 1).get_n_order_values(1))
    return np.stack(found)


def _numpy_values(game: WindowGame, window: int, present: npt.NDArray[np.generic]) -> Values:
    return game.values(window, torch.from_numpy(np.asarray(present, np.float32))).cpu().double().numpy()


def _mean_values(game: WindowGame, window: int, present: npt.NDArray[np.generic]) -> Values:
    return np.asarray(_numpy_values(game, window, present).mean(1))


def _all_coalitions(players: int) -> Tensor:
    return torch.arange(2**players)[:, None] >> torch.arange(players) & 1


def _counted(work: Callable[[], Values], windows: int) -> Run:
    def run() -> float:
        work()
        return float(windows)

    return run


def _quartiles(rows: list[PerfRow], other: str) -> str:
    by_name = {row.name: row.rounds for row in rows}
    ratios = [a / b for a, b in zip(by_name[OURS], by_name[other], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return f"{low:.2f} … {high:.2f}"


def _forecasts(name: str, players: int, background: int) -> int:
    """Return the forecasts that a contender makes for a window."""
    if name == OURS:  # one for two windows, which are each other's background; one of each window with all players
        return (2**players - 2) * background // 2 + 1
    return (players * math.factorial(players) + 1 if name == CAPTUM else 2**players) * background

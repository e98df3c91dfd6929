"""Attributions equal those of shap, captum and shapiq, for the same value function, written here by itself."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.evaluation.shapley.coalitions import CoalitionForecasts, Explained
from polarcast.hpc.evaluation.shapley.players import players_of
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.estimate import example_batch
from polarcast.models.forecaster import Forecaster

SIDE, DONORS, PLAYERS = 8, 2, 6
UNET = ("model.widths=[4,8]", "match_params=false")
DIFFUSION = (*UNET, "model.name=diffusion", "model.steps=2")


@dataclass(frozen=True)
class Case:
    """A model with the six QPE channels, windows, and the donors of each."""

    model: Forecaster
    batch: Batch
    pool: Tensor
    donors: npt.NDArray[np.int64]
    is_mutual: bool
    members: int = 1
    known: dict[tuple[int, ...], npt.NDArray[np.float64]] = field(default_factory=dict)
    """Values by window and coalition, for all libraries."""

    def ours(self) -> npt.NDArray[np.float64]:
        """Attributions of polarcast, (w, n, pixels)."""
        inputs = resolve(config()).inputs
        forecasts = CoalitionForecasts(self.model, players_of("channels", inputs), self.members, seed=3)
        given = Explained(self.batch, self.pool, self.donors, is_mutual=self.is_mutual)
        return forecasts.attributions(given).flatten(2).numpy()

    def value(self, window: int, present: Any) -> npt.NDArray[np.float64]:
        """Mean forecasts over the donors, (c, pixels), from who is present, (c, 6), field by field."""
        keys = [(window, *map(int, np.flatnonzero(row))) for row in np.asarray(present, bool)]
        for key in keys:
            if key not in self.known:
                self.known[key] = self._forecast(window, key[1:])
        return np.stack([self.known[key] for key in keys])

    @torch.no_grad()
    def _forecast(self, window: int, players: tuple[int, ...]) -> npt.NDArray[np.float64]:
        radar = self.pool[self.donors[window]].clone()
        for player in players:
            variable, height = divmod(player, 3)
            radar[:, 0, variable, height] = self.batch.radar[window, 0, variable, height]
        event, frame = (of[window].repeat(len(radar)) for of in (self.batch.event, self.batch.frame))
        one = replace(self.batch, radar=radar, rain=None, event=event, frame=frame)
        return np.asarray(self.model.forecast(one, self.members, 3).double().mean((0, 1)).flatten().numpy())


def config(*settings: str) -> Any:
    return load_config("demo", [*(settings or UNET), "data.heights_km=[1.0,3.0,7.0]"])


def case(settings: tuple[str, ...], is_mutual: bool, members: int = 1) -> Case:
    torch.manual_seed(0)
    resolved = resolve(config(*settings))
    model = build_model(resolved).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # untrained networks estimate no rain
            parameter.add_(0.1 * torch.randn(parameter.shape))
        [*model.parameters()][-1].fill_(1)
    windows = DONORS + 1 if is_mutual else 2
    batch = replace(example_batch(resolved.inputs, (SIDE, SIDE), windows), event=torch.arange(windows))
    batch = replace(batch, radar=50 * torch.rand(batch.radar.shape))
    if is_mutual:
        donors = np.array([[other for other in range(windows) if other != window] for window in range(windows)])
        return Case(model, batch, batch.radar, donors, is_mutual, members)
    donors = np.array([[0, 3], [2, 2]])
    return Case(model, batch, 50 * torch.rand(4, *batch.radar.shape[1:]), donors, is_mutual, members)


def by_shap(of: Case, window: int) -> npt.NDArray[np.float64]:
    shap = pytest.importorskip("shap", reason="shap is not installed: pip install shap")

    def masker(mask: npt.NDArray[np.bool_], _: object) -> npt.NDArray[np.bool_]:
        return mask[None]

    masker.shape = (1, PLAYERS)  # type: ignore[attr-defined]
    explainer = shap.ExactExplainer(lambda present: of.value(window, present), masker)
    return np.asarray(explainer(np.ones((1, PLAYERS)), silent=True).values[0])


def by_captum(of: Case, window: int) -> npt.NDArray[np.float64]:
    """All 720 orders."""
    attr = pytest.importorskip("captum.attr", reason="captum is not installed: pip install captum")

    def value(present: Tensor) -> Tensor:
        return torch.from_numpy(of.value(window, present.numpy()))

    found = attr.ShapleyValues(value).attribute(torch.ones(1, PLAYERS), perturbations_per_eval=PLAYERS)
    return found[0].T.double().numpy()


def by_shapiq(of: Case, window: int) -> npt.NDArray[np.float64]:
    """One game for each of three pixels; NaN elsewhere."""
    shapiq = pytest.importorskip("shapiq", reason="shapiq is not installed: pip install shapiq")
    found = np.full((PLAYERS, SIDE * SIDE), np.nan)
    for pixel in (0, 27, 63):
        computer = shapiq.ExactComputer(lambda present, p=pixel: of.value(window, present)[:, p], PLAYERS)
        values = computer(index="SV", order=1)
        found[:, pixel] = [values[(player,)] for player in range(PLAYERS)]
    return found


LIBRARIES = {"shap": by_shap, "captum": by_captum, "shapiq": by_shapiq}
CASES = {
    "windows that are each other's donors": (UNET, True, 1),
    "other windows as donors": (UNET, False, 1),
    "samples with the same noise": (DIFFUSION, False, 2),
}


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def given(request: pytest.FixtureRequest) -> Case:
    return case(*CASES[request.param])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("library", LIBRARIES)
def test_attributions_equal_those_of_a_library(given: Case, library: str) -> None:
    explain: Callable[[Case, int], npt.NDArray[np.float64]] = LIBRARIES[library]
    ours, window = given.ours(), 1
    theirs = explain(given, window)
    known = np.isfinite(theirs)
    scale = np.abs(ours[window]).max()
    assert scale > 1e-3  # mm/h: the players matter
    np.testing.assert_allclose(ours[window][known], theirs[known], atol=1e-5 * scale, rtol=0)


def test_attributions_add_up_to_the_forecast(given: Case) -> None:
    ours = given.ours()
    for window in range(len(given.batch)):
        nobody, everyone = given.value(window, [np.zeros(PLAYERS), np.ones(PLAYERS)])
        np.testing.assert_allclose(ours[window].sum(0), everyone - nobody, atol=1e-5)

"""Check that saved cases equal the scored forecasts and that recording sampling states does not change them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import case_windows, evaluate
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.models.diffusion.generative import Generative
from tests.support.finished_run import DIFFUSION, UNET, finished

GUIDED = (*DIFFUSION, "model.drop=0.1", "model.guidance=1.0")


def cases_of(run: RunFolder, shards: Manifest) -> dict[str, np.ndarray]:
    evaluate(run, shards, run.output)
    with np.load(run.output.cases) as cases:
        return dict(cases)


@pytest.mark.parametrize("overrides", [DIFFUSION, GUIDED], ids=["diffusion", "guided"])
def test_sampling_states_end_in_the_scored_forecast(
    overrides: tuple[str, ...], shards: Manifest, tmp_path: Path
) -> None:
    run = finished(shards, tmp_path / "run", *overrides)
    cases = cases_of(run, shards)
    model, reader = load_model(run, World()), build_reader(run.config(), shards, "test")
    assert isinstance(model, Generative)
    windows = case_windows(reader)
    with torch.no_grad():
        plain = model.forecast(reader.read(windows).to("cpu"))[:, 0, 0].numpy()
        # As in the evaluation: all windows in one batch, several members.
        scored = model.forecast(reader.read(np.arange(len(reader))).to("cpu"), 3)[windows, 0, 0].numpy()
    assert np.array_equal(cases["forecast"], plain)
    assert cases["forecast"] == pytest.approx(scored, rel=1e-4, abs=1e-4)
    assert cases["process"].shape == (model.evaluations, *shards.shape)
    assert abs(cases["process"][0].std() - 1) < 0.2, "the first state is not unit noise"


def test_model_without_sampling_saves_no_states(shards: Manifest, tmp_path: Path) -> None:
    assert "process" not in cases_of(finished(shards, tmp_path / "run", *UNET), shards)

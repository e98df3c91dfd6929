"""The placebo arm: as large as dual-pol, and worth nothing, in training, evaluation and prediction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.bench.checks import check_run, known_of
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.run import evaluate_records
from polarcast.hpc.inference.predict import PredictOptions, forecast
from polarcast.hpc.runs.build import build_reader, build_sampler
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.continuous import MOMENTS
from polarcast.hpc.training.train import train
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support.finished_run import UNET, finished

SETTINGS = ["model.widths=[4,8]", "train.global_batch=4", "train.validate_every=2", "train.threads=1"]


@pytest.fixture(scope="module")
def storms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Shards of 36 storms, of which 24 are for training."""
    folder = tmp_path_factory.mktemp("storms")
    write_archive(folder / "archive", 36, size=32, seed=1, preset="tiny", frames=2)
    write_shards(open_archive(folder / "archive"), folder / "shards", split="0.67/0.11/0.22")
    return read_manifest(folder / "shards")


def quiet_board() -> ProgressBoard:
    return ProgressBoard(Console(stderr=True, quiet=True))


def error_of(storms: Manifest, arm: str, folder: Path, *settings: str) -> float:
    """Sum of squared errors of a fitted model on the training events, where noise in few events does not decide."""
    run = RunFolder(folder / "-".join([arm, *settings]))
    train(
        load_config("demo", [f"data.shards={storms.folder}", f"arm={arm}", "train.threads=1", *settings]), run, World()
    )
    records = evaluate_records(run, None, "train", quiet_board(), World()).records
    return float(records.sums["continuous"][..., MOMENTS.index("sum_sq_error")].sum())


def test_gain_of_a_fitted_law_from_zdr_vanishes(storms: Manifest, tmp_path: Path) -> None:
    radar, dualpol, placebo = (
        error_of(storms, arm, tmp_path, "model.name=power_law", "model.coefficients=fitted")
        for arm in ("radar", "dualpol", "placebo")
    )
    assert dualpol < 0.8 * radar
    assert placebo == pytest.approx(radar, rel=0.08)


def test_zdr_of_other_events_has_the_same_distribution_and_no_correlation(storms: Manifest) -> None:
    config = load_config("demo", ["arm=placebo", "data.crop=0"])
    sampler = build_sampler(config, build_reader(config, storms, "train"))
    true = load_config("demo", ["arm=dualpol", "data.crop=0"])
    own = build_sampler(true, build_reader(true, storms, "train"))
    position = np.arange(20 * 48)
    placebo, dualpol = sampler.read(position), own.read(position)
    assert torch.equal(placebo.variable("zh"), dualpol.variable("zh"))
    fields = [batch.variable("zdr").float().numpy() for batch in (placebo, dualpol)]
    quantiles = np.quantile(np.stack([field.ravel() for field in fields]), [0.01, 0.5, 0.9, 0.99], axis=1)
    assert quantiles[:, 0] == pytest.approx(quantiles[:, 1], abs=0.1)
    mean_zdr = [field[:, 0, 0].mean((1, 2)) for field in fields]
    rain = dualpol.rain_rate.float().mean((1, 2, 3)).numpy()
    assert np.corrcoef(mean_zdr[1], rain)[0, 1] > 0.5
    assert abs(np.corrcoef(mean_zdr[0], rain)[0, 1]) < 0.15


@pytest.mark.parametrize(
    "settings",
    [[], ["task=nowcast", "data.seen_frames=1", "data.lead_frames=1", "model.name=furenet", "model.squeeze=4"]],
    ids=["qpe", "nowcast"],
)
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    storms: Manifest, tmp_path: Path, settings: list[str]
) -> None:
    given = [f"data.shards={storms.folder}", "arm=placebo", *SETTINGS, *settings, "train.checkpoint_every=1"]
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    config = load_config("demo", [*given, "train.steps=4"])
    for run in (whole, cut):
        train(config, run, World())
    for file in (cut.weights_file, *sorted(cut.checkpoints.glob("*"))[-1].glob("*")):
        file.unlink()
    train(config, cut, World())
    assert [r["step"] for r in cut.records() if r["event"] == "start"][-1] > 0
    expected, found = load_file(whole.weights_file), load_file(cut.weights_file)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_ranks_read_the_donors_of_one_process(storms: Manifest) -> None:
    config = load_config("demo", ["arm=placebo"])
    alone = build_sampler(config, build_reader(config, storms, "train")).read(np.arange(12)).radar
    for rank in range(3):
        mine = build_sampler(config, build_reader(config, storms, "train")).read(np.arange(rank, 12, 3)).radar
        assert torch.equal(mine, alone[rank::3])


def test_archive_with_several_events_is_scored_and_one_event_is_refused(storms: Manifest, tmp_path: Path) -> None:
    run = finished(storms, tmp_path / "run", "arm=placebo", *UNET)
    for events in (3, 1):
        write_archive(tmp_path / f"a{events}", events, size=32, seed=9, preset="tiny", frames=2)
    scored = evaluate_records(run, tmp_path / "a3", None, quiet_board(), World())
    assert len(scored.records.events) == 3
    with pytest.raises(BadInput, match="there is one group only"):
        evaluate_records(run, tmp_path / "a1", None, quiet_board(), World())


def test_prediction_is_refused(storms: Manifest, tmp_path: Path) -> None:
    run = finished(storms, tmp_path / "run", "arm=placebo", *UNET)
    with pytest.raises(BadInput, match="so it forecasts no event"):
        forecast(run, storms.folder.parent / "archive", PredictOptions(event=1))


def test_placebo_without_another_variable_is_refused() -> None:
    with pytest.raises(BadInput, match="takes all variables but zh from other events"):
        load_config("demo", ["arm=placebo", "data.variables=[zh]"])


def test_suite_on_a_split_of_one_event_is_refused_before_training(shards: Manifest) -> None:
    data = known_of(replace(shards, splits={**shards.splits, "test": shards.splits["test"][:1]}))
    with pytest.raises(BadInput, match="test has one only"):
        check_run(load_config("demo", ["arm=placebo"]), data, "models, U-Net")


def test_base_of_another_arm_is_refused(storms: Manifest, tmp_path: Path) -> None:
    base = finished(storms, tmp_path / "base", "arm=dualpol", *UNET)
    settings = [f"base={base.path}", "model.name=residual_diffusion", "match_params=false"]
    assert resolve(load_config("demo", [*settings, "arm=dualpol"])).bases
    with pytest.raises(BadInput, match="the base run has arm=dualpol, this run arm=placebo"):
        resolve(load_config("demo", [*settings, "arm=placebo"]))

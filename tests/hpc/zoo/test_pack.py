"""Packing a run: the same forecasts, without anything of the machine; whole or not at all."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from polarcast.data import files
from polarcast.data.errors import BadInput
from polarcast.data.files import write_json
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.digest import digest
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.inference.predict import PredictOptions, forecast
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.event_scores import EventScores, compare
from polarcast.hpc.zoo import pack as packing
from polarcast.hpc.zoo.net import ZooRun
from polarcast.hpc.zoo.note import LIMITS, NOTE, card_of
from polarcast.hpc.zoo.pack import PackOptions, pack
from tests.support.finished_run import BASELINE, DIFFUSION, UNET, finished

LOCAL = ("train.engine=ddp", "data.workers=0", "train.micro_batch=3", "train.track=[tensorboard]")
TEXTS = [name for name in (*LIMITS, NOTE) if name != "weights.safetensors"]


def all_text(net: Path) -> str:
    return "".join((net / name).read_text(encoding="utf-8") for name in TEXTS)


def test_the_folder_is_complete_and_describes_the_run(unet_run: RunFolder, packed_net: Path) -> None:
    assert {path.name for path in packed_net.iterdir()} == {*LIMITS, NOTE}
    net = ZooRun(packed_net)
    config = unet_run.config()
    assert digest(net.config()) == digest(config)
    assert (net.note.task, net.note.arm, net.note.model) == ("qpe", "dualpol", "unet")
    assert net.note.variables == config.variables() == ("zh", "zdr")
    assert (net.note.spacing_km, net.note.step_minutes) == (1.0, 6.0)
    assert (net.note.name, net.note.license) == ("tiny-unet", "Apache-2.0")
    stored, given = load_file(packed_net / "weights.safetensors"), load_file(unet_run.weights_file)
    assert stored.keys() == given.keys()
    assert all(torch.equal(stored[name], given[name]) for name in given)


def test_half_the_bits_are_half_the_size_and_nearly_the_same_forecast(shards: Manifest, tmp_path: Path) -> None:
    run = finished(shards, tmp_path / "run", "model.name=unet", "model.widths=[16,32]")
    whole, half = pack(run, tmp_path / "whole"), pack(run, tmp_path / "half", PackOptions(half=True))
    sizes = [(net.path / "weights.safetensors").stat().st_size for net in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    stored = load_file(half.path / "weights.safetensors")
    assert {value.dtype for value in stored.values() if value.numel() >= 1024} == {torch.float16}
    assert {value.dtype for value in stored.values() if value.ndim == 1} == {torch.float32}
    assert (card_of(whole.path).get("stored_as"), card_of(half.path)["stored_as"]) == (None, "float16")
    assert "| Weights stored as | float16 |" in (half.path / "card.md").read_text(encoding="utf-8")
    event = shards.splits["test"][0]
    options = PredictOptions(event, frames=(0, 2), seed=3)
    of_whole, of_half = (forecast(one, shards.folder, options)["rain_rate"] for one in (whole, half))
    np.testing.assert_allclose(of_half, of_whole, rtol=0.02, atol=0.02)
    assert not np.array_equal(of_half, of_whole)


def test_weights_beyond_16_bits_are_refused(
    unet_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_SMALL", 1)
    model = packing.load_model(unet_run, packing.World())
    next(model.parameters()).data.fill_(1e6)
    monkeypatch.setattr(packing, "load_model", lambda *_: model)
    with pytest.raises(BadInput, match="is beyond the range of 16-bit floats"):
        pack(unet_run, tmp_path / "net", PackOptions(half=True))
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("model", [UNET, BASELINE, DIFFUSION], ids=["unet", "power_law", "diffusion"])
def test_a_net_forecasts_what_its_run_does(shards: Manifest, tmp_path: Path, model: tuple[str, ...]) -> None:
    run = finished(shards, tmp_path / "run", *model)
    net = pack(run, tmp_path / "net")
    event = shards.splits["test"][0]
    options = PredictOptions(event, frames=(0, 2), members=2, seed=3)
    of_run, of_net = (forecast(one, shards.folder, options)["rain_rate"] for one in (run, net))
    # A net sets no number of threads, which affects the last digits.
    np.testing.assert_allclose(of_net, of_run, rtol=1e-4, atol=1e-4)
    assert np.isfinite(of_net).all()


def test_weights_of_base_runs_are_inside(shards: Manifest, unet_run: RunFolder, tmp_path: Path) -> None:
    model = ("model.name=residual_diffusion", "model.steps=2", f"base={unet_run.path}", *UNET)
    net = pack(finished(shards, tmp_path / "run", *model), tmp_path / "net")
    [base] = net.config().bases
    assert base.run == ""
    assert str(unet_run.path) not in all_text(net.path)
    assert any(name.startswith("base.") for name in load_file(net.weights_file))
    event = shards.splits["test"][0]
    assert np.isfinite(forecast(net, shards.folder, PredictOptions(event, frames=(0, 1)))["rain_rate"]).all()


def test_the_run_that_training_started_from_loses_its_folder(
    shards: Manifest, unet_run: RunFolder, tmp_path: Path
) -> None:
    run = finished(shards, tmp_path / "run", *UNET, f"train.start_from={unet_run.path}")
    net = pack(run, tmp_path / "net")
    assert str(unet_run.path) not in all_text(net.path)
    assert digest(net.config()) == digest(run.config()) != digest(unet_run.config())


def test_nothing_of_the_machine_is_packed(shards: Manifest, tmp_path: Path) -> None:
    run = finished(shards, tmp_path / "run", *UNET, *LOCAL)
    known = json.loads(run.provenance_file.read_text())
    known |= {
        "host": "node-of-ours",
        "command": ["train", "demo", f"data.shards={tmp_path}/shards", "--out=~/private/place", "token=abc123",
                    "data.stage_to=../elsewhere/disk", "url=https://user:word@server.example/private/shards"],
    }  # fmt: skip
    known["data"] |= {"folder": "/data/private"}
    known["data"]["archive"] |= {"root": "/data/private", "sources": ["/data/private/a.nc"]}
    write_json(run.provenance_file, known)
    net = pack(run, tmp_path / "net")
    text = all_text(net.path)
    for secret in (
        str(tmp_path),
        str(shards.folder),
        "node-of-ours",
        "private",
        "elsewhere",
        "abc123",
        "word",
        "server",
    ):
        assert secret not in text, secret
    assert "polarcast train demo data.shards=…/shards --out=…/place" in text
    config = net.config()
    assert (config.data.shards, config.train.engine, config.train.threads) == ("shards", "deepspeed", 0)
    assert (config.data.workers, config.train.micro_batch, config.train.track) == (2, 32, [])
    assert digest(config) == digest(run.config())


def test_the_card_has_recorded_scores_with_intervals(shards: Manifest, tmp_path: Path) -> None:
    run, other = finished(shards, tmp_path / "run", *UNET), finished(shards, tmp_path / "other", *BASELINE)
    records, others = (EventScores(evaluate(one, shards, one.output), one is run) for one in (run, other))
    net = pack(run, tmp_path / "net", PackOptions(beside=(other.path,)))
    card = card_of(net.path)
    [scored] = card["scores"]
    assert (scored["on"], scored["data"], scored["events"]) == ("test", shards.digest(), 2)
    rows = {row["score"]: row for row in scored["scores"]}
    assert rows["rmse"]["value"] == pytest.approx(records["rmse"], rel=1e-4)
    assert rows.keys() >= {"rmse", "nb", "csi@threshold=1", "csi@threshold=10"}
    interval = records.interval("rmse")
    low = None if np.isnan(interval.low) else pytest.approx(interval.low, rel=1e-4)
    assert rows["rmse"]["low"] == low
    [beside] = scored["beside"]
    assert beside["run"] == "power_law, dualpol"
    against = {row["score"]: row for row in beside["scores"]}["rmse"]
    assert against["value"] == pytest.approx(others["rmse"], rel=1e-4)
    assert against["difference"]["value"] == pytest.approx(compare(others, records, "rmse").value, rel=1e-3)
    assert "power_law, dualpol" in (net.path / "card.md").read_text(encoding="utf-8")


def test_a_run_beside_must_be_scored_on_the_same_events(shards: Manifest, unet_run: RunFolder, tmp_path: Path) -> None:
    other = finished(shards, tmp_path / "other", *BASELINE)
    with pytest.raises(BadInput, match="has no scores on events that the packed run was scored on"):
        pack(unet_run, tmp_path / "net", PackOptions(beside=(other.path,)))
    assert not (tmp_path / "net").exists()


def test_the_page_shows_text_as_text(packed_net: Path) -> None:
    page = (packed_net / "card.md").read_text(encoding="utf-8")
    assert "Anything \\| real" in page
    assert "None recorded." in page


@pytest.mark.parametrize(("widths", "factor"), [("[4,8]", 2), ("[4,8,8]", 4), ("[4]", 1)])
def test_sides_are_found_by_forecasts(shards: Manifest, tmp_path: Path, widths: str, factor: int) -> None:
    run = finished(shards, tmp_path / "run", *UNET, f"model.widths={widths}")
    assert pack(run, tmp_path / "net").note.sides_multiple_of == factor


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("arm=placebo", *UNET), "a placebo takes ZDR and KDP from other events"),
        (("model.name=autoencoder", "train.threads=1"), "receives the truth as input"),
    ],
)
def test_runs_that_forecast_nothing_are_refused(
    shards: Manifest, tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    run = finished(shards, tmp_path / "run", *overrides)
    with pytest.raises(BadInput, match=message):
        pack(run, tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_an_unfinished_run_is_refused(shards: Manifest, tmp_path: Path) -> None:
    run = finished(shards, tmp_path / "run", *UNET)
    run.weights_file.unlink()
    with pytest.raises(BadInput, match="not fully trained"):
        pack(run, tmp_path / "net")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PackOptions(name="../up"), "a name must not start with a dot"),
        (PackOptions(about="two\nlines"), "not a line of text"),
        (PackOptions(license=" "), "is empty"),
        (PackOptions(not_for=("token=abcdef",)), "holds a secret"),
        (PackOptions(about="x" * 501), "at most 500 characters"),
    ],
)
def test_lines_that_can_not_be_stored(unet_run: RunFolder, tmp_path: Path, options: PackOptions, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        pack(unet_run, tmp_path / "net", options)
    assert message in str(caught.value)
    assert not (tmp_path / "net").exists()


def test_only_a_new_folder_is_written_to(unet_run: RunFolder, packed_net: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in packed_net.iterdir()}
    with pytest.raises(BadInput, match="exists and is not empty"):
        pack(unet_run, packed_net)
    assert {path.name: path.read_bytes() for path in packed_net.iterdir()} == before


def test_an_error_while_writing_leaves_nothing(
    unet_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LIMITS", {**LIMITS, "weights.safetensors": 10})
    with pytest.raises(BadInput, match=r"weights\.safetensors would have .* the most are 10"):
        pack(unet_run, tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["save_weights", "read_file", "sync_folder"])
def test_a_kill_leaves_no_net(unet_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A process that is killed before a step leaves no folder of this name, and does not hinder the next one."""

    def killed(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(files if step == "sync_folder" else packing, step, killed)
    if not (child := os.fork()):
        try:
            pack(unet_run, tmp_path / "net")
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not (tmp_path / "net").exists()
    monkeypatch.undo()
    assert pack(unet_run, tmp_path / "net").note.name == "net"

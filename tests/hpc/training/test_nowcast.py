"""Nowcasts: windows, augmentation, scores, tables and figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.bench.figures import lead_times
from polarcast.hpc.bench.figures.draw import FIGURES, draw_figures
from polarcast.hpc.bench.figures.source import FigureData, Kept
from polarcast.hpc.bench.figures.views import draw_views
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec
from polarcast.hpc.bench.table import build_table
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.runs.build import build_reader, build_sampler
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.echo_change import CHANGES, change_of
from polarcast.hpc.scores.records import Records, read_records
from polarcast.hpc.training.train import train
from tests.support.on_ranks import on_ranks

INPUT_FRAMES, LEAD_FRAMES = 3, 2
NET = {"name": "furenet", "widths": [4, 6], "squeeze": 2}
QUICK = {"steps": 4, "validate_every": 4, "global_batch": 2, "warmup_steps": 1, "threads": 1}


@pytest.fixture(scope="module")
def storms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Shards of eight events of seven frames, 32 × 32: three windows each."""
    root = tmp_path_factory.mktemp("storms")
    write_archive(root / "archive", 8, size=32, seed=5, preset="tiny", frames=7)
    write_shards(open_archive(root / "archive"), root / "shards", split="0.5/0.25/0.25")
    return read_manifest(root / "shards")


def configured(manifest: Manifest, arm: str = "dualpol", **model: object) -> RunConfig:
    data = {
        "shards": str(manifest.folder),
        "seen_frames": INPUT_FRAMES,
        "lead_frames": LEAD_FRAMES,
        "heights_km": [3.0, 1.0],
    }
    values = {"task": "nowcast", "arm": arm, "data": data, "model": model or NET, "train": QUICK}
    return load_config("demo", {**values, "match_params": False})


@pytest.fixture(scope="module")
def runs(storms: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], RunFolder]:
    made = {}
    for name, arm in (("persistence", "radar"), ("furenet", "radar"), ("furenet", "dualpol")):
        run = RunFolder(tmp_path_factory.mktemp(f"{name}-{arm}"))
        config = configured(storms, arm, **({} if name == "furenet" else {"name": name}))
        train(config, run, World())
        evaluate(run, storms, run.output)
        made[name, arm] = run
    return made


def records_of(run: RunFolder) -> Records:
    return read_records(run.output.scores)


@pytest.mark.parametrize("variables", [["zh"], ["zdr", "kdp"], ["kdp", "zh"]])
@pytest.mark.parametrize("reader", ["mapped", "stream"])
def test_window_has_the_input_frames_and_the_following_zh(storms: Manifest, variables: list[str], reader: str) -> None:
    data = {"variables": variables, "reader": reader}
    config = load_config(configured(storms).to_dict(), {"data": data})
    batch = build_reader(config, storms, "train").read([0, 2, 5]).to("cpu")
    # Each frame as an input of its own, for comparison.
    alone = build_reader(load_config(config.to_dict(), {"data": {**data, "variables": ["zh", "zdr", "kdp"],
                         "seen_frames": 1, "lead_frames": 6}}), storms, "train")  # fmt: skip
    for b, (event, frame) in enumerate(zip(batch.event.tolist(), batch.frame.tolist(), strict=True)):
        whole = alone.read(np.flatnonzero(alone.events() == event)).to("cpu")
        zh = torch.cat([whole.variable("zh")[0], whole.required_target_zh[0]])
        assert batch.required_target_zh[b].equal(zh[frame + INPUT_FRAMES : frame + INPUT_FRAMES + LEAD_FRAMES])
        assert batch.last_zh is not None
        assert batch.last_zh[b].equal(zh[frame + INPUT_FRAMES - 1])
        if "zh" in variables:
            assert batch.variable("zh")[b].equal(zh[frame : frame + INPUT_FRAMES])
            assert batch.variable("zh")[b, -1].equal(batch.last_zh[b])
    assert batch.radar.shape == (3, INPUT_FRAMES, len(variables), 2, 32, 32)
    assert batch.rain is None


def test_crops_of_past_and_future_are_aligned(storms: Manifest) -> None:
    config = load_config(configured(storms).to_dict(), {"data": {"crop": 16}})
    batch = build_sampler(config, build_reader(config, storms, "train")).read(np.arange(6))
    assert batch.last_zh is not None
    assert batch.variable("zh")[:, -1].equal(batch.last_zh)
    assert batch.required_target_zh.shape == (6, LEAD_FRAMES, 2, 16, 16)


def test_flips_and_rotations_of_past_and_future_are_the_same(storms: Manifest) -> None:
    config = load_config(configured(storms).to_dict(), {"data": {"flip_rotate": True}})
    reader = build_reader(config, storms, "train")
    draw, places = build_sampler(config, reader), np.arange(64)
    batch = draw.read(places)
    plain = reader.read(draw.windows(places))
    assert batch.last_zh is not None
    assert batch.variable("zh")[:, -1].equal(batch.last_zh)
    laid_out = [lambda x: x, lambda x: x.rot90(1), lambda x: x.rot90(2), lambda x: x.rot90(3)]
    laid_out += [lambda x, of=of: of(x).T for of in laid_out]
    ways = [[way(field) for way in laid_out] for field in plain.required_target_zh[:, 0, 0]]
    found = [
        [bool(laid.equal(way)) for way in of] for laid, of in zip(batch.required_target_zh[:, 0, 0], ways, strict=True)
    ]
    assert np.array(found).any(1).all()
    assert np.array(found).any(0).all()
    assert batch.radar.equal(draw.read(places).radar)


def test_concentration_jitter_keeps_zdr(storms: Manifest) -> None:
    config = load_config(configured(storms).to_dict(), {"data": {"concentration_jitter_db": 6.0}})
    reader = build_reader(config, storms, "train")
    draw, places = build_sampler(config, reader), np.arange(64)
    batch, plain = draw.read(places).to("cpu"), reader.read(build_sampler(config, reader).windows(places)).to("cpu")
    zh, before = batch.variable("zh"), plain.variable("zh")
    kept = zh != 0
    assert ((zh >= 5) | ~kept).all()
    assert not (kept & (before == 0)).any()
    shifts = torch.stack([(zh[b] - before[b])[kept[b]].median() for b in range(64) if kept[b].any()])
    assert len(shifts) > 32
    assert shifts.abs().max() <= 6.02
    assert shifts.std() == pytest.approx(6 / 3**0.5, rel=0.3)
    assert batch.last_zh is not None
    assert zh[:, -1].equal(batch.last_zh)
    for b in range(64):
        if not kept[b].any():
            continue
        shift = (zh[b] - before[b])[kept[b]].median()
        target, unshifted = batch.required_target_zh[b], plain.required_target_zh[b]
        torch.testing.assert_close(target[target != 0], (unshifted + shift)[target != 0], atol=0.05, rtol=0)
        assert ((unshifted + shift)[(target == 0) & (unshifted != 0)] < 5.05).all()
        zdr, kdp = batch.variable("zdr")[b], batch.variable("kdp")[b]
        assert zdr[kept[b]].equal(plain.variable("zdr")[b][kept[b]])
        torch.testing.assert_close(
            kdp[kept[b]], plain.variable("kdp")[b][kept[b]] * 10 ** (shift / 10), atol=2e-3, rtol=2e-2
        )
        assert (zdr[~kept[b]] == 0).all()
    assert batch.radar.equal(draw.read(places).to("cpu").radar)


def test_persistence_forecasts_the_last_frame(storms: Manifest, runs: dict[tuple[str, str], RunFolder]) -> None:
    records = records_of(runs["persistence", "radar"])
    batch = build_reader(configured(storms), storms, "test").read(range(6)).to("cpu")
    assert batch.last_zh is not None
    assert records.protocol.lead_time == (6.0, 12.0)
    assert records.protocol.height == (3.0, 1.0)
    error = (batch.last_zh[:, None].clamp(min=0) - batch.required_target_zh).double().square().sum((0, 3, 4))
    assert records.sums["continuous"].sum((0, 3))[..., 4] == pytest.approx(error.numpy(), rel=1e-6)


def test_every_window_has_one_class_of_change(runs: dict[tuple[str, str], RunFolder]) -> None:
    for run in runs.values():
        sums = records_of(run).sums
        assert np.array_equal(sums["by_change"].sum(3), sums["contingency"])


@pytest.mark.multiprocess
def test_ranks_evaluate_with_the_same_batch_statistics(storms: Manifest, tmp_path: Path) -> None:
    config = configured(storms)
    config.train.precision = "fp32"
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(config.to_dict()))
    first, second = on_ranks(2, "normalised", file, out=tmp_path, by_torchrun=True)
    assert first["own"] != second["own"]
    assert first["shared"] == second["shared"]
    assert first["shared"] == pytest.approx(np.mean([first["own"], second["own"]], 0), rel=1e-5, abs=1e-6)
    assert first["kept"]


def test_change_is_classified_by_the_echo_area() -> None:
    def field(pixels: int) -> torch.Tensor:
        return torch.where(torch.arange(10_000) < pixels, 35.0, 10.0).view(100, 100)

    pairs = {(100, 125): "grows", (100, 124): "steady", (125, 100): "decays", (0, 10): "initiates", (9, 9): "steady",
             (0, 0): "steady", (500, 0): "decays", (9, 500): "initiates"}  # fmt: skip
    found = change_of(*(torch.stack([field(p[side]) for p in pairs]) for side in (0, 1)))
    assert [CHANGES[i] for i in found] == list(pairs.values())


def test_tables_and_figures_of_nowcasts(runs: dict[tuple[str, str], RunFolder], tmp_path: Path) -> None:
    table = TableSpec(title="t", metrics=["csi@threshold=20,lead_time=*", "csi@threshold=20,change=grows"])
    models = {"persistence": ModelSpec(label="Persistence", arms=["radar"]), "furenet": ModelSpec(label="FURENet")}
    suite = Suite(name="s", task="nowcast", models=models, tables={"t": table})
    scores = {key: [records_of(run)] for key, run in runs.items()}
    records = build_table("t", suite, scores).records
    assert {r.metric for r in records} == {"csi@threshold=20,lead_time=6", "csi@threshold=20,lead_time=12",
                                           "csi@threshold=20,change=grows"}  # fmt: skip
    kept = [Kept(*key, run.output.cases) for key, run in runs.items()]
    drawn = draw_figures(tmp_path, FigureData(suite, scores, kept))
    assert {path.stem for path in drawn} == {n for n, f in FIGURES.items() if f.task != "qpe"} - {"ensembles", "views"}
    heads = {path.suffix: path.read_bytes()[:4] for path in drawn}
    assert heads == {".png": b"\x89PNG", ".gif": b"GIF8"}


def test_views_figure_of_bagging(storms: Manifest, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train(configured(storms, **{**NET, "name": "bagging"}), run, World())
    evaluate(run, storms, run.output)
    table = TableSpec(title="t", metrics=["csi@threshold=20"])
    suite = Suite(
        name="s", task="nowcast", models={"bagging": ModelSpec(label="B", arms=["dualpol"])}, tables={"t": table}
    )
    kept = [Kept("bagging", "dualpol", run.output.cases)]
    [drawn] = draw_views(tmp_path / "views.png", FigureData(suite, {("bagging", "dualpol"): [records_of(run)]}, kept))
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_legend_of_thirty_networks_fits_below_the_plots(
    storms: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    train(configured(storms, **NET), run, World())
    evaluate(run, storms, run.output)
    names = {f"net{n}": f"net {n} on top of extrapolation, all carried along, of two frames" for n in range(30)}
    suite = Suite(
        name="s",
        task="nowcast",
        models={name: ModelSpec(label=label, arms=["dualpol"]) for name, label in names.items()},
        tables={"t": TableSpec(title="t", metrics=["csi@threshold=20"])},
    )
    drawn: list[Any] = []
    monkeypatch.setattr(lead_times, "save", lambda figure, _: drawn.append(figure))
    lead_times.draw_lead_times(
        tmp_path / "x.png", FigureData(suite, {(name, "dualpol"): [records_of(run)] for name in names})
    )
    [figure] = drawn
    figure.canvas.draw()
    [legend] = figure.legends
    assert [text.get_text().replace("\n", " ") for text in legend.get_texts()] == list(names.values())
    within, around = legend.get_window_extent(), figure.bbox
    assert around.x0 <= within.x0 < within.x1 <= around.x1
    assert around.y0 <= within.y0 < within.y1 <= min(axis.get_window_extent().y0 for axis in figure.axes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"context": 2}}, "data.context"),
        ({"data": {"lead_frames": 0}}, "data.lead_frames"),
        ({"model": {"name": "unet"}}, "unet does not support nowcast"),
        ({"model": {"loss": "l2"}}, "model.loss"),
    ],
)
def test_invalid_nowcast_configuration_is_rejected(
    storms: Manifest, change: dict[str, dict[str, object]], message: str
) -> None:
    from polarcast.hpc.config.load import model_config

    with pytest.raises(BadInput, match=message):
        model_config(load_config(configured(storms).to_dict(), change))

"""`import polarcast`: the documented example runs, every name is documented, and nothing heavy is imported early."""

import inspect
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import polarcast as pc
from polarcast.data.archive import Archive
from polarcast.data.shards.manifest import Manifest
from tests.support import warm

PROJECT = Path(__file__).resolve().parents[3]
SMALL = ["model.widths=[4,8]", "train.steps=4", "train.validate_every=2", "train.global_batch=4", "train.micro_batch=4"]


@pytest.fixture(scope="module")
def runs(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pc.Run]:
    """A small run of either arm."""
    folder = tmp_path_factory.mktemp("runs")
    configs = {arm: pc.load_config("demo", [f"data.shards={shards.folder}", f"arm={arm}", "match_params=false", *SMALL])
               for arm in ("radar", "dualpol")}  # fmt: skip
    return {arm: pc.train(config, out=folder / arm) for arm, config in configs.items()}


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "deepspeed", "ray", "wandb", "pyarrow", "matplotlib", "scipy", "omegaconf", "typer")
    probe = f"import sys, polarcast\nprint(polarcast.__version__, [m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[1].strip() == "[]"


@pytest.mark.parametrize("name", pc.__all__)
def test_every_name_is_documented(name: str) -> None:
    found = getattr(pc, name)
    text = inspect.getdoc(found)
    assert text
    assert len(text.splitlines()[0]) > 20
    if inspect.isfunction(found):
        arguments = list(inspect.signature(found).parameters)
        assert "Raises:" in text
        assert all(f"{argument}:" in text for argument in arguments if len(arguments) > 1), arguments
    assert name in dir(pc)


@pytest.mark.parametrize("name", pc.scores.__all__)
def test_every_score_is_documented_with_its_formula_or_reference(name: str) -> None:
    text = inspect.getdoc(getattr(pc.scores, name))
    assert text
    assert text.startswith("Return ")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pc.nonsense  # noqa: B018


def test_the_documented_example_runs(
    runs: dict[str, pc.Run], shards: Manifest, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of docs/guides/python.md, on a CPU, a small archive and a small network."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").symlink_to(shards.folder)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "radar").symlink_to(runs["radar"].path)
    OmegaConf.save(OmegaConf.from_dotlist(SMALL), tmp_path / "small.yaml")
    code = (PROJECT / "docs" / "guides" / "python.md").read_text().split("```python\n")[1].split("```")[0]
    for theirs, here in {
        '"cuda" if torch.cuda.is_available() else "cpu"': '"cpu"', '"demo"': '"small.yaml"',
        '"train.steps=100"': '"train.steps=4"', '"storms", event=3': f'"{archive.root}", event=1',
        "threshold=10": "threshold=1",
    }.items():  # fmt: skip
        assert theirs in code
        code = code.replace(theirs, here)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/guides/python.md", "exec"), names)
    batch, rain, scores = names["batch"], names["rain"], names["scores"]
    assert rain.shape == (8, 1, 1, 32, 32)
    assert not names["model"].training
    assert pc.scores.csi(rain.mean(1), batch.rain, threshold=1) == pytest.approx(scores["csi@threshold=1"])
    assert scores.by_event("rmse").shape == (2,)
    assert names["run"].scores["rmse"] == scores["rmse"]
    assert names["forecast"].to_xarray()["rain_rate"].dims == ("member", "time", "y", "x")
    assert {path.name for path in tmp_path.iterdir()} >= {"rain.nc", "rain.png"}
    assert np.isnan([names["low"], names["high"], names["p"]]).all()  # two events are too few for an interval


def test_a_run_tells_what_it_is(runs: dict[str, pc.Run]) -> None:
    run = runs["radar"]
    assert repr(run).endswith("unet, radar, trained)")
    assert (run.config.arm, run.is_trained) == ("radar", True)
    assert [record["step"] for record in run.log if record["event"] == "validation"] == [2, 4]
    assert all(isinstance(record["time"], float) for record in run.log)
    assert run.provenance["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert run.card["arm"] == "radar"


def test_training_goes_on_in_a_folder_that_holds_the_run(runs: dict[str, pc.Run]) -> None:
    run = runs["radar"]
    before = run.log
    again = pc.train(run.config, out=run.path)
    assert again.log == before
    with pytest.raises(pc.BadInput, match="another configuration"):
        pc.train(pc.load_config(run.config.to_dict(), ["seed=7"]), out=run.path)


def test_both_arms_are_compared_on_the_same_events(runs: dict[str, pc.Run]) -> None:
    radar, dualpol = (runs[arm].evaluate() for arm in ("radar", "dualpol"))
    found = pc.compare(radar, dualpol, "rmse")
    assert found.value == pytest.approx(dualpol["rmse"] / radar["rmse"] - 1)
    assert found.events == 2
    assert np.isnan(found.low)  # two events are too few for an interval


def test_predictions_are_the_numbers_that_the_command_writes(
    runs: dict[str, pc.Run], archive: Archive, tmp_path: Path
) -> None:
    import xarray as xr

    run = runs["dualpol"]
    forecast = run.predict(archive.root, event=2, frames=(1, 3))
    command = [sys.executable, "-m", "polarcast.hpc.cli", "predict", run.path, archive.root, tmp_path / "theirs.nc",
               "--event", 2, "--frames", "1:3", "--json"]  # fmt: skip
    done = warm.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["warnings"] == list(forecast.warnings)
    forecast.to_netcdf(tmp_path / "ours.nc")
    ours, theirs = (xr.load_dataset(tmp_path / name) for name in ("ours.nc", "theirs.nc"))
    xr.testing.assert_identical(ours.drop_attrs(), theirs.drop_attrs())
    assert {k: v for k, v in ours.attrs.items() if k != "history"} == {
        k: v for k, v in theirs.attrs.items() if k != "history"
    }
    xr.testing.assert_equal(forecast.to_xarray(), ours)
    assert np.array_equal(forecast["rain_rate"], ours["rain_rate"].values)
    assert forecast.dims("rain_rate") == ("member", "time", "y", "x")


def test_a_model_refuses_batches_of_other_fields(runs: dict[str, pc.Run], shards: Manifest) -> None:
    model = runs["dualpol"].load_model("cpu")
    for other, message in (
        ({"variables": ["zdr", "zh"]}, "variables: the batch has"),
        ({"variables": ["zh", "zdr"], "heights_km": [7.0, 3.0, 1.0]}, "heights_km: the batch has"),
        ({"variables": ["zh", "zdr"], "context": 1}, "2 frames, the model reads 1"),
    ):
        with pytest.raises(pc.BadInput, match=message):
            model.forecast(pc.open_shards(shards.folder, **other)[0].to("cpu"))
    with pytest.raises(pc.BadInput, match="half precision"):
        model.forecast(pc.open_shards(shards.folder, variables=["zh", "zdr"])[0])


def test_a_submission_belongs_to_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = (["data.shards=/a"], ["data.shards=/b"], ["train.steps=7"])
    found = [pc.submit(pc.load_config("demo", change), dry_run=True) for change in changes]
    assert len({one.config for one in found}) == 3
    assert found[0].run == found[1].run != found[2].run
    with pytest.raises(pc.BadInput, match="load_config"):
        pc.submit("demo", dry_run=True)  # type: ignore[arg-type]


def test_training_in_a_thread_works(shards: Manifest, tmp_path: Path) -> None:
    config = pc.load_config("demo", [f"data.shards={shards.folder}", "match_params=false", *SMALL])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(pc.train, config, tmp_path / "run").result().is_trained


def test_a_finished_run_learns_where_its_shards_are_now(runs: dict[str, pc.Run], tmp_path: Path) -> None:
    run = runs["radar"]
    shutil.copytree(run.path, tmp_path / "copy")
    elsewhere = str(shutil.copytree(run.config.data.shards, tmp_path / "elsewhere"))
    moved = pc.load_config(run.config.to_dict(), [f"data.shards={elsewhere}"])
    assert pc.train(moved, tmp_path / "copy").config.data.shards == elsewhere


def test_a_run_that_is_not_trained_says_so(shards: Manifest, tmp_path: Path) -> None:
    with pytest.raises(pc.BadInput, match="not a run"):
        pc.open_run(tmp_path)
    from polarcast.hpc.runs.folder import RunFolder

    RunFolder(tmp_path / "new").start(pc.load_config("demo", [f"data.shards={shards.folder}"]))
    run = pc.open_run(tmp_path / "new")
    assert "not fully trained" in repr(run)
    with pytest.raises(pc.BadInput, match="trained"):
        run.load_model()
    with pytest.raises(pc.BadInput, match="score"):
        run.scores  # noqa: B018


def test_a_submission_is_the_script_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = pc.load_config("standard", ["arm=radar"])
    found = pc.submit(config, cluster="gpu", nodes=4, dry_run=True)
    command = [sys.executable, "-m", "polarcast.hpc.cli", "submit", "--dry-run", "--cluster", "gpu", "--nodes", "4",
               "--name", found.run.name, "--", "train", str(found.config), "--out", str(found.run)]  # fmt: skip
    assert found.script == warm.run(command, capture_output=True, text=True, check=True).stdout
    assert found.job is None
    assert not list(tmp_path.iterdir())
    with pytest.raises(pc.BadInput, match="nowhere"):
        pc.submit(config, cluster="nowhere", dry_run=True)


def test_errors_of_a_forecast_name_arguments_not_options(
    runs: dict[str, pc.Run], archive: Archive, tmp_path: Path
) -> None:
    run = runs["dualpol"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "select one with event"),
        ({"event": 2, "members": 0}, "^members: "),
        ({"event": 2, "issued": 1}, "^issued: .* — give frames instead$"),
        ({"event": 2, "frames": (2, 99)}, "^frames: 99 is beyond the last frame, 3 — end at 4 at most$"),
        ({"event": 2, "frames": ("a", None)}, "^frames: expected numbers"),
        ({"event": 2, "frames": (9, None)}, "^frames: no frame in 9:"),
    ]
    for arguments, message in wrong:
        with pytest.raises(pc.BadInput, match=message) as refused:
            run.predict(archive.root, **arguments)
        assert "--" not in str(refused.value)
    forecast = run.predict(archive.root, event=2, frames=(2, 4))
    for write in (forecast.to_netcdf, forecast.to_png):
        with pytest.raises(pc.BadInput, match="is a folder"):
            write(tmp_path)

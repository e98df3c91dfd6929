"""Wrong arguments of calls from Python: one line that names the argument, never another exception."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polarcast as pc
from polarcast.data.archive import Archive
from polarcast.data.shards.manifest import Manifest
from tests.support.finished_run import UNET, finished

FIELD = np.ones((2, 8, 8), np.float32)
Call = Callable[["Given"], object]


class Given:
    """A finished run, its scores, a forecast and where they come from."""

    def __init__(self, shards: Manifest, archive: Archive, folder: Path) -> None:
        self.shards, self.archive, self.folder = shards, archive, folder
        self.run = pc.open_run(finished(shards, folder / "run", *UNET).path)
        self.scores = self.run.evaluate()
        self.forecast = self.run.predict(archive.root, event=2, frames=(1, 2))

    def predict(self, **arguments: Any) -> object:
        return self.run.predict(self.archive.root, **{"event": 2, "frames": (1, 2), **arguments})


@pytest.fixture(scope="module")
def given(shards: Manifest, archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Given:
    return Given(shards, archive, tmp_path_factory.mktemp("given"))


ANY: Any = pc
WRONG: list[tuple[str, Call]] = [
    *(("out", lambda g, v=v: ANY.train(g.run.config, v)) for v in (None, 7, b"x", "")),
    ("on_step", lambda g: ANY.train(g.run.config, g.folder / "new", on_step=7)),
    *(("path", lambda g, v=v: ANY.open_run(v)) for v in (None, 7, b"x", "", "a\0b")),
    ("trust", lambda g: ANY.open_run(g.run.path, trust="no")),
    *(("source", lambda g, v=v: g.run.predict(v)) for v in (None, 7, "")),
    *(("members", lambda g, v=v: g.predict(members=v)) for v in ("x", 1.5, True, 0)),
    *(("seed", lambda g, v=v: g.predict(seed=v)) for v in ("x", None, 1.5, -1)),
    *(("size", lambda g, v=v: g.predict(size=v)) for v in ("x", None, 0)),
    *(("event", lambda g, v=v: g.predict(event=v)) for v in ("x", 1.5, True)),
    *(("issued", lambda g, v=v: g.predict(issued=v)) for v in ("x", 1.5, 1)),
    *(("frames", lambda g, v=v: g.predict(frames=v)) for v in (None, 3, (1, 2, 3), "12", (1.5, 2), (True, 2), (-1, 2))),
    *(("device", lambda g, v=v: g.run.load_model(v)) for v in ("foo", "", "cuda:99", ["cpu"])),
    *(("archive", lambda g, v=v: g.run.evaluate(archive=v)) for v in (7, "", b"x")),
    *(("split", lambda g, v=v: ANY.Run.evaluate(g.run, split=v)) for v in (["test"], 7, "", "nonsense")),
    ("split", lambda g: g.run.evaluate("validation", g.archive.root)),
    *(("players", lambda g, v=v: g.run.explain(players=v)) for v in (7, "", "colours", "times", ["zh"])),
    *(("imputation", lambda g, v=v: g.run.explain(imputation=v)) for v in (None, 7, "mean")),
    *(("windows", lambda g, v=v: g.run.explain(windows=v)) for v in ("x", None, 1.5, 0)),
    *(("background", lambda g, v=v: g.run.explain(background=v)) for v in ("x", None, 0)),
    *(("members", lambda g, v=v: g.run.explain(members=v)) for v in ("x", 0)),
    *(("scores", lambda g, v=v: g.run.explain(scores=v)) for v in ("rmse", ["rmse", "rmse"])),
    *(("seeds", lambda g, v=v: g.run.explain(seeds=v)) for v in (7, ["runs/unet"])),
    *(("split", lambda g, v=v: g.run.explain(split=v)) for v in (7, "", "nonsense")),
    ("out", lambda g: g.run.explain(out=7)),  # type: ignore[arg-type]
    ("long", lambda g: g.run.explain(long="no")),  # type: ignore[arg-type]
    *(("out", lambda g, v=v: ANY.submit(g.run.config, out=v, dry_run=True)) for v in (7, b"x", "")),
    ("dry_run", lambda g: ANY.submit(g.run.config, dry_run="no")),
    *(("path", lambda g, v=v: g.forecast.to_netcdf(v)) for v in (None, 7)),
    *(("path", lambda g, v=v: g.forecast.to_png(v)) for v in (None, 7)),
    *(("score", lambda g, v=v: g.scores[v]) for v in (None, 7)),
    ("score", lambda g: g.scores.by_event(None)),  # type: ignore[arg-type]
    ("score", lambda g: g.scores.interval(7)),  # type: ignore[arg-type]
    ("aggregation", lambda g: g.scores.interval("rmse", ["mean"])),  # type: ignore[arg-type]
    ("score", lambda g: ANY.compare(g.scores, g.scores, None)),
    ("first", lambda g: ANY.compare(g.run, g.run, "rmse")),
    ("second", lambda g: ANY.compare(g.scores, None, "rmse")),
    *(("rain", lambda g, v=v: ANY.open_shards(g.shards.folder, rain=v)) for v in ("yes", 1)),
    *(("location", lambda g, v=v: ANY.open_shards(v)) for v in (None, 7, b"x", "")),
    *(("split", lambda g, v=v: ANY.open_shards(g.shards.folder, v)) for v in (None, ["test"])),
    *(("frames", lambda g, v=v: ANY.open_shards(g.shards.folder, frames=v)) for v in (True, 0, "x", None)),
    *(("variables", lambda g, v=v: ANY.open_shards(g.shards.folder, variables=v)) for v in ("zh", 7, [["zh"]], [])),
    ("threshold", lambda g: ANY.scores.csi(FIELD, FIELD, None)),
    ("window", lambda g: ANY.scores.fss(FIELD, FIELD, 1, "wide")),
    ("keep_dims", lambda g: ANY.scores.csi(FIELD, FIELD, 1, keep_dims=["x"])),
    ("keep_dims", lambda g: ANY.scores.csi(FIELD, FIELD, 1, keep_dims="0")),
    ("member_dim", lambda g: ANY.scores.crps(FIELD, FIELD[0], member_dim="x")),
    ("config", lambda g: ANY.train("demo", g.folder / "new")),
    ("configuration", lambda g: ANY.load_config("demo", {"a": 1})),
]


@pytest.mark.parametrize(("name", "call"), WRONG, ids=[f"{n}-{name}" for n, (name, _) in enumerate(WRONG)])
def test_a_wrong_argument_is_named_in_one_line(given: Given, name: str, call: Call) -> None:
    with pytest.raises(pc.BadInput) as refused:
        call(given)
    assert str(refused.value).startswith(f"{name}: ")
    assert len(str(refused.value).splitlines()) == 1
    assert "--" not in str(refused.value)
    assert not (given.folder / "new").exists()


def test_numbers_of_numpy_are_numbers(given: Given, shards: Manifest) -> None:
    one = np.int64(1)
    found = given.predict(event=np.int64(2), members=one, seed=one, frames=[one, np.int64(2)], size=np.int64(256))
    assert isinstance(found, pc.Prediction)
    assert "frames=(1, 2)" in found.attrs["history"]
    assert pc.open_shards(shards.folder, frames=one)[0].radar.shape[1] == 1  # type: ignore[arg-type]
    assert pc.scores.csi(FIELD, FIELD, np.float32(1), keep_dims=np.int64(0)).shape == (2,)  # type: ignore


def test_shards_relative_to_another_folder_are_explained(
    shards: Manifest, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "sh").symlink_to(shards.folder)
    monkeypatch.chdir(tmp_path / "here")
    run = finished(shards, tmp_path / "run", *UNET, "data.shards=sh").path
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pc.BadInput, match=r"relative to the folder where it was trained — .* or give archive$"):
        pc.open_run(run).evaluate()

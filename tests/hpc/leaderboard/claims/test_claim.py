"""The verb on files: scores beside baselines, signs, claimed scores, exit codes, and files that are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.io import netcdf_file
from typer.testing import CliRunner

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.cli.app import app
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.leaderboard.claims.judge import ClaimJudgement, judge
from polarcast.hpc.leaderboard.claims.read import read_claim
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.training.train import train
from tests.support.finished_run import BASELINE, DIFFUSION, finished, forecasts_of
from tests.support.vast_npz import vast

Arrays = dict[str, npt.NDArray[Any]]
SEEN, LEAD = 2, 2
OF_NOWCASTS = ("task=nowcast", f"data.seen_frames={SEEN}", f"data.lead_frames={LEAD}", "train.threads=1")
EXTRAPOLATION = (*OF_NOWCASTS, "model.name=extrapolation", "model.motion_frames=2")
PERSISTENCE = (*OF_NOWCASTS, "model.name=persistence")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Shards with six test events of three windows each."""
    root = tmp_path_factory.mktemp("claims")
    write_archive(root / "archive", 10, size=32, seed=6, preset="tiny", frames=6)
    write_shards(open_archive(root / "archive"), root / "shards", split="0.3/0.1/0.6", shard_mb=0)
    return read_manifest(root / "shards")


@pytest.fixture(scope="module")
def law(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, Records]:
    """Forecasts of the published law, and its scores as `evaluate` computes them."""
    run = finished(shards, tmp_path_factory.mktemp("law"), *BASELINE, "arm=radar")
    return forecasts_of(run, shards), evaluate(run, shards, run.output)


@pytest.fixture(scope="module")
def ahead(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, Records]:
    """Extrapolations, and their scores as `evaluate` computes them."""
    run = finished(shards, tmp_path_factory.mktemp("ahead"), *EXTRAPOLATION)
    return forecasts_of(run, shards), evaluate(run, shards, run.output)


def saved(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def judged(path: Path, arrays: Arrays, shards: Manifest, *says: str) -> ClaimJudgement:
    seen = SEEN if arrays["forecast"].ndim == 6 else None
    return judge(saved(path / "theirs.npz", arrays), str(shards.folder), says=says, seen_frames=seen)


def signs(found: ClaimJudgement) -> list[str]:
    return [sign.name for sign in found.signs]


def value_of(records: Records, name: str) -> float:
    score = parse_score(name)
    return float(score.of(score.sums(records).sum(0), records.protocol))


@pytest.mark.parametrize("task", ["law", "ahead"])
def test_scores_are_those_of_evaluate_and_the_baseline_is_equal(
    task: str, shards: Manifest, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    arrays, records = request.getfixturevalue(task)
    found = judged(tmp_path, arrays, shards)
    same = "Z–R, published" if task == "law" else "extrapolation"
    for one in found.scores:
        assert one.interval.value == pytest.approx(value_of(records, str(one.score)), nan_ok=True)
        assert one.beside[same].interval.value == pytest.approx(one.interval.value, nan_ok=True)
        assert one.beside[same].difference.value == pytest.approx(0, abs=1e-9, nan_ok=True)
    others = {"law": ["Z–R, published", "Z–R, fitted", "R(ZH, ZDR), fitted"], "ahead": ["persistence", "extrapolation"]}
    assert list(found.scores[0].beside) == others[task]
    assert found.is_clean
    assert found.notes == []
    assert found.windows[0] == found.windows[1] == len(arrays["event"])


def test_differences_have_intervals(shards: Manifest, law: tuple[Arrays, Records], tmp_path: Path) -> None:
    twice = {**law[0], "forecast": 2 * law[0]["forecast"]}
    found = judged(tmp_path, twice, shards)
    csi = next(one for one in found.scores if str(one.score) == "csi@threshold=1")
    other = csi.beside["Z–R, published"]
    assert other.difference.value == pytest.approx(csi.interval.value - other.interval.value)
    assert other.difference.low < other.difference.value < other.difference.high
    assert csi.interval.low < csi.interval.value < csi.interval.high


@pytest.mark.parametrize("settings", [DIFFUSION, PERSISTENCE], ids=["ensemble", "persistence"])
def test_other_honest_forecasts_give_no_sign(settings: tuple[str, ...], shards: Manifest, tmp_path: Path) -> None:
    arrays = forecasts_of(finished(shards, tmp_path / "run", *settings), shards)
    found = judged(tmp_path, arrays, shards)
    assert signs(found) == []
    assert found.notes == (
        ["the forecasts are persistence: each frame equals the last input frame"] if settings == PERSISTENCE else []
    )


def test_a_trained_net_gives_no_sign(shards: Manifest, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "net")
    train(load_config("demo", [f"data.shards={shards.folder}", "model.widths=[4,8]", "match_params=false",
                               "model.first_guess=power_law", "train.steps=20", "train.validate_every=20",
                               "train.global_batch=4", "train.threads=1"]), run, World())  # fmt: skip
    assert signs(judged(tmp_path, forecasts_of(run, shards), shards)) == []


def test_planted_errors_are_named_and_put_right(
    shards: Manifest, ahead: tuple[Arrays, Records], law: tuple[Arrays, Records], tmp_path: Path
) -> None:
    arrays, records = ahead
    fields = arrays["forecast"]
    turned = judged(tmp_path, {**arrays, "forecast": fields.swapaxes(-1, -2)}, shards)
    assert signs(turned) == ["transposed"]
    right = {str(one.score): one.beside["put right"].interval.value for one in turned.scores}
    assert right["rmse"] == pytest.approx(value_of(records, "rmse"))
    assert signs(judged(tmp_path, {**arrays, "forecast": fields.swapaxes(-1, -2) / 80}, shards)) == [
        "transposed", "scale-0-1",
    ]  # fmt: skip
    truth = build_reader(load_config("demo", [*PERSISTENCE, "arm=radar"]), shards, "test").read(range(len(fields)))
    leaked = np.asarray(truth.required_target_zh)[:, None]
    assert signs(judged(tmp_path, {**arrays, "forecast": leaked}, shards)) == ["equal-to-truth"]
    rain = {**law[0], "forecast": law[0]["forecast"] * np.float32(shards.time_step_minutes / 60)}
    assert signs(judged(tmp_path, rain, shards)) == ["depth-per-step"]


def test_claimed_scores_are_checked(shards: Manifest, law: tuple[Arrays, Records], tmp_path: Path) -> None:
    arrays, records = law
    pod, far = (value_of(records, f"{name}@threshold=1") for name in ("pod", "far"))
    new = f"csi@threshold=2.5={value_of(records, 'csi@threshold=1'):.4f}"
    fss = "fss@threshold=1,window=5"
    found = judged(
        tmp_path, arrays, shards, f"pod@threshold=1={far:.5f}", f"far@threshold=1={pod:.5f}",
        f"rmse={value_of(records, 'rmse'):.3f}", f"{fss}={value_of(records, fss):.4f}", new,
    )  # fmt: skip
    assert [one.agrees for one in found.says] == [False, False, True, True, False]
    assert all("POD and FAR exchanged" in "".join(one.reasons) for one in found.says[:2])
    assert not found.is_clean
    assert fss in [str(one.score) for one in found.scores]


def test_forecasts_of_some_windows_are_scored_and_noted(
    shards: Manifest, law: tuple[Arrays, Records], tmp_path: Path
) -> None:
    part = {name: of[:5] for name, of in law[0].items()}
    found = judged(tmp_path, part, shards)
    assert found.windows == (5, len(law[0]["event"]))
    assert f"5 of {len(law[0]['event'])} windows of the test split have a forecast" in found.notes[0]
    assert found.scores[0].beside["Z–R, published"].interval.value == pytest.approx(found.scores[0].interval.value)


def test_wrong_windows_are_refused(shards: Manifest, ahead: tuple[Arrays, Records], tmp_path: Path) -> None:
    path = saved(tmp_path / "theirs.npz", {**ahead[0], "event": ahead[0]["event"] + 900})
    with pytest.raises(BadInput, match="no forecast of a window of the test split"):
        judge(path, str(shards.folder), seen_frames=SEEN)
    first = {name: np.concatenate([of, of]) for name, of in ahead[0].items()}
    first["frame"][len(ahead[0]["frame"]) :] += 3
    with pytest.raises(BadInput, match=r"no window of 4 frames begins at event .*, frame 3 — check --seen-frames"):
        judge(saved(path, first), str(shards.folder), seen_frames=SEEN)
    with pytest.raises(BadInput, match="--seen-frames: a nowcast of 2 lead times, whose number of input frames"):
        judge(saved(path, ahead[0]), str(shards.folder))


def classic(path: Path, arrays: Arrays, name: str = "forecast") -> Path:
    with netcdf_file(path, "w", version=2) as file:
        axes = "nmtzyx" if arrays["forecast"].ndim == 6 else "nmyx"
        for axis, length in zip(axes, arrays["forecast"].shape, strict=True):
            file.createDimension(axis, length)
        for variable in ("event", "frame"):
            file.createVariable(variable, "i4", ("n",))[:] = arrays[variable]
        file.createVariable(name, "f4", tuple(axes))[:] = arrays["forecast"]
    return path


def netcdf4(path: Path, arrays: Arrays, packed: bool = False) -> Path:
    netCDF4 = pytest.importorskip("netCDF4")
    with netCDF4.Dataset(path, "w") as file:
        axes = "nmtzyx" if arrays["forecast"].ndim == 6 else "nmyx"
        for axis, length in zip(axes, arrays["forecast"].shape, strict=True):
            file.createDimension(axis, length)
        for variable in ("event", "frame"):
            file.createVariable(variable, "i8", ("n",))[:] = arrays[variable]
        made = file.createVariable(
            "forecast", "i2" if packed else "f4", tuple(axes), fill_value=-32768 if packed else None
        )
        if packed:
            made.scale_factor = 0.01
        made[:] = arrays["forecast"]
    return path


@pytest.mark.parametrize("write", [classic, netcdf4])
def test_netcdf_is_read_as_npz(
    write: Callable[[Path, Arrays], Path], ahead: tuple[Arrays, Records], tmp_path: Path
) -> None:
    found, expected = read_claim(write(tmp_path / "x.nc", ahead[0])), read_claim(saved(tmp_path / "x.npz", ahead[0]))
    assert found.where == str(tmp_path / "x.nc")
    assert found.sha256() == expected.sha256()


def test_packed_netcdf_is_unpacked_and_fill_values_are_missing(law: tuple[Arrays, Records], tmp_path: Path) -> None:
    fields = np.ma.masked_array(law[0]["forecast"], law[0]["forecast"] > 1)
    found = read_claim(netcdf4(tmp_path / "x.nc", {**law[0], "forecast": fields}, packed=True)).fields.numpy()
    np.testing.assert_array_equal(np.isnan(found), fields.mask)
    np.testing.assert_allclose(found[~fields.mask], fields.data[~fields.mask], atol=0.0051)


def test_the_verb_tells_and_exits(shards: Manifest, ahead: tuple[Arrays, Records], tmp_path: Path) -> None:
    arrays = ahead[0]
    options = ["--shards", str(shards.folder), "--seen-frames", str(SEEN)]
    honest = classic(tmp_path / "honest.nc", arrays)
    wrong = saved(tmp_path / "wrong.npz", {**arrays, "forecast": arrays["forecast"][..., ::-1, :] * 255 / 80})
    run = CliRunner().invoke
    good = run(app, ["claim", str(honest), *options])
    assert good.exit_code == 0, good.output
    assert "no sign of the usual errors" in good.output
    assert "persistence" in good.output
    bad = run(app, ["claim", str(wrong), *options])
    assert bad.exit_code == 1
    assert "flipped in y (flipped-y)" in bad.output
    assert "pixel values of 0 to 255 in place of dBZ (scale-0-255)" in bad.output
    said = run(app, ["claim", str(honest), *options, "--says", "rmse=1.00", "--json"])
    assert said.exit_code == 1
    record = json.loads(said.output)
    assert record["signs"] == []
    assert record["says"][0]["agrees"] is False
    assert set(record["scores"][0]["beside"]) == {"persistence", "extrapolation"}
    assert {"value", "low", "high", "difference"} == set(record["scores"][0]["beside"]["persistence"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no forecasts"), (b"text", "no forecasts"), (vast(), "claims the shape"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "no forecasts"), (b"CDF\x01" + bytes(40), "has no variable event"),
        (b"CDF\x02" + b"\xff" * 60, "no forecasts|truncated"), (b"CDF\x05" + b"\xff" * 60, "no forecasts|truncated"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.nc").write_bytes(content)
    with pytest.raises(BadInput, match=words) as refused:
        read_claim(tmp_path / "x.nc")
    assert str(refused.value).isprintable()


def test_cut_and_incomplete_netcdf_is_refused(law: tuple[Arrays, Records], tmp_path: Path) -> None:
    whole = classic(tmp_path / "x.nc", law[0]).read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="truncated"):
        read_claim(tmp_path / "cut.nc")
    assert read_claim(classic(tmp_path / "rain.nc", law[0], "rain_rate")).members == 1
    with pytest.raises(BadInput, match="has no variable forecast"):
        read_claim(classic(tmp_path / "odd.nc", law[0], "rainfall"))
    with netcdf_file(tmp_path / "predicted.nc", "w") as file:  # as `predict` writes it
        file.createDimension("y", 2)
        file.createVariable("rain_rate", "f4", ("y",))[:] = 0
    with pytest.raises(BadInput, match="no variable event, so that the windows of its forecasts are unknown"):
        read_claim(tmp_path / "predicted.nc")


def test_netcdf4_without_its_package_names_the_extra(
    law: tuple[Arrays, Records], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = netcdf4(tmp_path / "x.nc", law[0])
    monkeypatch.setitem(__import__("sys").modules, "netCDF4", None)
    with pytest.raises(
        BadInput, match=r"netCDF4 is not installed — install the extra: pip install 'polarcast\[ingest\]'"
    ):
        read_claim(path)


def test_a_grid_that_is_no_square_names_exchanged_axes(
    shards: Manifest, law: tuple[Arrays, Records], tmp_path: Path
) -> None:
    from dataclasses import replace

    from polarcast.hpc.leaderboard.claims.judge import check_fields

    found = read_claim(saved(tmp_path / "x.npz", {**law[0], "forecast": law[0]["forecast"][..., :20, :]}))
    config = load_config("demo", [f"data.shards={shards.folder}"])
    with pytest.raises(BadInput, match="transposed axes: fields of 20 × 32 pixels, the shards 32 × 20"):
        check_fields(found, config, replace(shards, shape=(32, 20)))

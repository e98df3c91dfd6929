"""Forecasts of other software become runs: scored as those of any model, complete or not at all, without a model."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import polarcast as pc
from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.files import write_json
from polarcast.data.shards.health import file_sha256
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.digest import digest
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.leaderboard import external
from polarcast.hpc.leaderboard.entry import Entry, find_entries
from polarcast.hpc.leaderboard.external import ExternalModel, add_external
from polarcast.hpc.leaderboard.ranking import make_boards
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import read_records, write_records
from polarcast.models.common.settings import Limits
from polarcast.models.registry import EXTERNAL, MODELS, get_model
from tests.support.finished_run import BASELINE, DIFFUSION, UNET, finished, forecasts_of
from tests.support.vast_npz import vast

Arrays = dict[str, npt.NDArray[Any]]
Here = Callable[..., tuple[int, str, str]]
NOWCAST = ("task=nowcast", "model.name=persistence", "data.seen_frames=2", "data.lead_frames=2", "train.threads=1")
FILES = {"config.yaml", "provenance.json", "scores.parquet", "verified.json"}


@pytest.fixture(scope="module")
def rain(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    return forecasts_of(finished(shards, tmp_path_factory.mktemp("law"), *BASELINE), shards)


@pytest.fixture(scope="module")
def zh(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    return forecasts_of(finished(shards, tmp_path_factory.mktemp("persistence"), *NOWCAST), shards)


def made(folder: Path, arrays: Arrays, shards: Manifest, **about: Any) -> RunFolder:
    if np.ndim(arrays.get("forecast")) == 6:
        about = {"seen_frames": 2, **about}
    add_external(folder, arrays, str(shards.folder), ExternalModel(**about))
    return RunFolder(folder)


@pytest.mark.parametrize("settings", [UNET, DIFFUSION, BASELINE, NOWCAST], ids=["net", "ensemble", "law", "nowcast"])
def test_scores_are_those_of_the_run_that_made_the_forecasts(
    shards: Manifest, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    run = finished(shards, tmp_path / "own", *settings)
    expected = evaluate(run, shards, run.output)
    found = read_records(made(tmp_path / "mine", forecasts_of(run, shards), shards).output.scores)
    assert found.protocol == expected.protocol
    assert found.data == expected.data
    np.testing.assert_array_equal(found.events, expected.events)
    np.testing.assert_array_equal(found.groups, expected.groups)
    assert found.sums.keys() == expected.sums.keys()
    for name, sums in expected.sums.items():
        np.testing.assert_array_equal(found.sums[name], sums, err_msg=name)


def test_the_order_of_windows_and_further_ones_do_not_matter(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    shuffled = {name: of[::-1].copy() for name, of in rain.items()}
    other_split = {"event": shards.splits["train"][0], "frame": 0, "forecast": np.nan}
    longer = {name: np.concatenate([of, np.full_like(of[:1], other_split[name])]) for name, of in shuffled.items()}
    first, second = (read_records(made(tmp_path / n, a, shards).output.scores) for n, a in (("a", rain), ("b", longer)))
    for name, sums in first.sums.items():
        np.testing.assert_array_equal(second.sums[name], sums, err_msg=name)


def test_the_folder_is_that_of_a_ranked_run(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    run = made(tmp_path / "mine", rain, shards, arm="dualpol", label="our CNN")
    assert {path.name for path in run.path.iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    config = run.config()
    assert (config.task, config.arm, config.evaluate.members) == ("qpe", "dualpol", 1)
    [board] = make_boards(find_entries([tmp_path]), parse_score("rmse"))
    row = board.places[0].as_row()
    names = [row[key] for key in ("run", "model", "arm", "standing")]
    assert names == ["mine", "our CNN (external)", "dualpol", "verified"]
    costs = ("parameters", "training_flops", "forecast_flops", "process_hours", "kilowatt_hours")
    assert [row[cost] for cost in costs] == [None] * len(costs)
    assert board.as_record()["data"] == shards.digest()
    assert board.places[0].lacks_seeds  # it may be one training of many


def test_what_follows_from_the_shape_of_nowcasts(shards: Manifest, zh: Arrays, tmp_path: Path) -> None:
    config = made(tmp_path / "all", zh, shards).config()
    assert (config.task, config.data.seen_frames, config.data.lead_frames) == ("nowcast", 2, 2)
    assert config.data.heights_km == list(shards.heights_km)
    one = {**zh, "forecast": zh["forecast"][:, :, :, 1:2]}
    with pytest.raises(BadInput, match=r"heights: the forecast has 1 along z, the shards have 3 .* of 1, 3, 7 km"):
        made(tmp_path / "one", one, shards)
    assert made(tmp_path / "one", one, shards, heights_km=(3.0,)).config().data.heights_km == [3.0]


def test_nowcasts_of_other_windows_are_refused(shards: Manifest, zh: Arrays, tmp_path: Path) -> None:
    """Windows of more input frames are among those of fewer, but the frames to forecast are others."""
    event, frame = zh["event"], zh["frame"]
    assert set(frame.tolist()) == {0}  # events have four frames
    for arrays, words in (
        ({**zh, "frame": frame + 1}, "no forecast of event .*, frame 0"),
        ({name: of[event == event[0]] for name, of in zh.items()}, "no forecast of event"),
        ({**zh, "forecast": zh["forecast"].repeat(2, 2)}, "no test event has 4 lead times after 2 input frames"),
    ):
        with pytest.raises(BadInput, match=words):
            made(tmp_path / "wrong", arrays, shards)
    with pytest.raises(BadInput, match=r"no forecast of event .*, frame 1 — give those of 1 \+ 2 frames"):
        made(tmp_path / "wrong", zh, shards, seen_frames=1)
    assert made(tmp_path / "right", zh, shards, seen_frames=2).config().data.seen_frames == 2


def test_input_frames_of_nowcasts_must_be_given(shards: Manifest, zh: Arrays, tmp_path: Path) -> None:
    """Half of the lead times, with twice the input frames, has the same windows: scored at other times."""
    with pytest.raises(BadInput, match="--seen-frames: a nowcast of 2 lead times, whose number of input frames"):
        made(tmp_path / "mine", zh, shards, seen_frames=None)


@pytest.mark.parametrize("value", [-9999.0, -32.0, 101.0])
def test_fill_values_of_nowcasts_are_refused(shards: Manifest, zh: Arrays, tmp_path: Path, value: float) -> None:
    wrong = {**zh, "forecast": np.full_like(zh["forecast"], value)}
    with pytest.raises(BadInput, match=r"give zh in dBZ \(no echo is 0\), from -10 to 100"):
        made(tmp_path / "mine", wrong, shards)


def test_masked_values_are_missing(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    masked = np.ma.masked_array(rain["forecast"], np.ones(rain["forecast"].shape, bool))
    with pytest.raises(BadInput, match=r"nan at .* observed pixels"):
        made(tmp_path / "mine", {**rain, "forecast": masked}, shards)


def test_a_forged_record_of_this_machine_is_not_verified(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    run = finished(shards, tmp_path / "run", "model.name=power_law")
    evaluate(run, shards, run.output)
    write_json(run.path / "card.json", {"parameters": 0})
    record = {"verified": True, "reason": "", "scores_sha256": file_sha256(run.output.scores)}
    write_json(run.path / "verified.json", record)
    assert Entry(run.path).standing == ""


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {key: of for key, of in arrays.items() if key != name}


def with_(**changes: Callable[[npt.NDArray[Any]], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {key: np.asarray(changes.get(key, lambda of: of)(of)) for key, of in arrays.items()}


def first_pixel(value: float) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    def change(of: npt.NDArray[Any]) -> npt.NDArray[Any]:
        of = of.copy()
        of[1, 0, 5, 7] = value
        return of

    return change


WRONG: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "NaN": (with_(forecast=first_pixel(np.nan)), "nan at 1 of 910 observed pixels of event"),
    "infinite": (with_(forecast=first_pixel(-np.inf)), "-inf at 1 of 910 observed pixels of event"),
    "beyond float32": (with_(forecast=lambda of: of.astype(np.float64) + 1e300), "inf at 910 of 910 observed pixels"),
    "absurd": (with_(forecast=first_pixel(1e30)), "1e\\+30 at 1 of 910 observed pixels of event"),
    "too few windows": (lambda arrays: {key: of[:-1] for key, of in arrays.items()}, "no forecast of event"),
    "no window": (lambda arrays: {key: of[:0] for key, of in arrays.items()}, "shapes do not match"),
    "no member": (with_(forecast=lambda of: of[:, :0]), "shapes do not match"),
    "no member axis": (with_(forecast=lambda of: of[:, 0]), "shapes do not match"),
    "fewer events": (with_(event=lambda of: of[1:]), "shapes do not match"),
    "frames by member": (with_(frame=lambda of: of[:, None]), "shapes do not match"),
    "another grid": (with_(forecast=lambda of: of[..., :-1]), "fields of 32 × 31 pixels, the shards 32 × 32"),
    "a window twice": (with_(event=lambda of: of * 0 + of[0], frame=lambda of: of * 0), "is there twice"),
    "events of floats": (with_(event=lambda of: of * np.nan), "event is of type float64 — give whole numbers"),
    "texts": (with_(forecast=lambda of: of.astype(str)), "forecast is of type <U"),
    "complex": (with_(forecast=lambda of: of * 1j), "forecast is of type complex"),
    "no frame": (without("frame"), "no forecasts .*frame"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("as_file", [True, False], ids=["file", "arrays"])
def test_wrong_forecasts_are_one_line_and_leave_nothing(
    shards: Manifest, rain: Arrays, tmp_path: Path, name: str, as_file: bool
) -> None:
    change, words = WRONG[name]
    arrays = change(rain)
    np.savez(tmp_path / "wrong.npz", **arrays)  # type: ignore[arg-type]
    source = tmp_path / "wrong.npz" if as_file else arrays
    with pytest.raises(BadInput, match=words) as refused:
        add_external(tmp_path / "runs" / "mine", source, str(shards.folder), ExternalModel())
    assert str(refused.value).isprintable()
    assert not any(path.is_file() for path in tmp_path.rglob("*") if path.name != "wrong.npz")


def pickled() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, event=np.array([{}], dtype=object), frame=[0], forecast=np.zeros((1, 1, 4, 4)))
    return stream.getvalue()


HOSTILE = {
    "objects": (pickled(), "holds pickled objects"), "a claim": (vast(), "claims the shape"),
    "no archive": (b"no archive", "no forecasts"), "empty": (b"", "no forecasts"),
    "an empty archive": (b"PK\5\6" + bytes(18), "no forecasts"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(shards: Manifest, tmp_path: Path, name: str) -> None:
    content, words = HOSTILE[name]
    (tmp_path / "hostile.npz").write_bytes(content)
    with pytest.raises(BadInput, match=words) as refused:
        add_external(tmp_path / "mine", tmp_path / "hostile.npz", str(shards.folder), ExternalModel())
    assert str(refused.value).isprintable()
    assert not (tmp_path / "mine").exists()


def test_values_where_nothing_was_observed_do_not_count(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    batch = build_reader(pc.load_config("demo"), shards, "test", observed=True).read(range(8))
    assert batch.observed is not None
    unobserved = ~batch.observed[:, 0].numpy()
    assert unobserved.any()
    holes = {**rain, "forecast": np.where(unobserved, np.float32(np.nan), rain["forecast"])}
    whole, with_holes = (
        read_records(made(tmp_path / n, a, shards).output.scores) for n, a in (("a", rain), ("b", holes))
    )
    assert with_holes.share_without_forecast == 0
    for name, sums in whole.sums.items():
        np.testing.assert_array_equal(with_holes.sums[name], sums, err_msg=name)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_or_an_end_while_writing_leaves_nothing(
    shards: Manifest, rain: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def fail(path: Path, *_: Any) -> None:
        assert (path.parent / "config.yaml").exists()  # the first file is there
        raise fault

    monkeypatch.setattr(external, "write_records", fail)
    with pytest.raises(type(fault)):
        made(tmp_path / "mine", rain, shards)
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_leaves_is_no_run(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    """A process that is killed removes nothing: the folder under its temporary name stays."""
    names: list[str] = []

    class Recorded(Exception):
        pass

    def record(path: Path, *_: Any) -> None:
        names.append(path.parent.name)
        raise Recorded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external, "write_records", record)
        with pytest.raises(Recorded):
            made(tmp_path / "mine", rain, shards)
    run = made(tmp_path / "mine", rain, shards)
    shutil.copytree(run.path, tmp_path / names[0])
    assert [entry.name for entry in find_entries([tmp_path])] == ["mine"]


def test_only_a_new_or_empty_folder_is_written_to(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "empty")
    made(tmp_path / "linked", rain, shards)
    assert {path.name for path in (tmp_path / "empty").iterdir()} == FILES
    before = {path: path.read_bytes() for path in (tmp_path / "empty").iterdir()}
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("empty", "linked", "notes", "file"):
        with pytest.raises(BadInput, match="exists and is not empty — choose another folder"):
            made(tmp_path / name, rain, shards)
    assert {path: path.read_bytes() for path in (tmp_path / "empty").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "linked", "notes", "file"}


def test_arms_are_those_that_a_model_can_read(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    for arm, fix in (("dualpl", r"did you mean dualpol\? "), ("placebo", "")):
        with pytest.raises(BadInput, match=f"unknown arm '{arm}' — {fix}choose from: radar, dualpol"):
            made(tmp_path / "mine", rain, shards, arm=arm)
    for of_nowcasts in ({"seen_frames": 3}, {"heights_km": (1.0,)}):
        with pytest.raises(BadInput, match="belongs to nowcasts"):
            made(tmp_path / "mine", rain, shards, **of_nowcasts)
    with pytest.raises(BadInput, match=r"model\.label: .*control characters"):
        made(tmp_path / "mine", rain, shards, label="a\nb")
    for label in ("${oc.env:HOME}", "???", "\ud800", "x" * 101):
        with pytest.raises(BadInput, match=r"--label: .* can't be stored"):
            made(tmp_path / "mine", rain, shards, label=label)


def test_runs_of_the_same_forecasts_have_the_same_digest(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    changed = {**rain, "forecast": rain["forecast"] + np.float32(1)}
    digests = [digest(made(tmp_path / n, a, shards).config()) for n, a in (("a", rain), ("b", rain), ("c", changed))]
    assert digests[0] == digests[1] != digests[2]


class TestCommand:
    @pytest.fixture
    def file(self, rain: Arrays, tmp_path: Path) -> Path:
        np.savez(tmp_path / "mine.npz", **rain)  # type: ignore[arg-type]
        return tmp_path / "mine.npz"

    def test_a_run_is_made_ranked_and_not_made_again(
        self, shards: Manifest, file: Path, tmp_path: Path, polarcast_here: Here
    ) -> None:
        run = tmp_path / "runs" / "mine"
        words = ("leaderboard", "add", run, "--forecasts", file, "--shards", shards.folder)
        code, out, err = polarcast_here(*words, "--label", "our CNN", "--json")
        assert (code, err) == (0, "")
        result = json.loads(out)
        assert (result["verified"], result["task"], result["arm"], result["events"]) == (True, "qpe", "radar", 2)
        code, out, _ = polarcast_here("leaderboard", "rank", tmp_path / "runs", "--json")
        [board] = json.loads(out)["boards"]
        assert [place["model"] for place in board["places"]] == ["our CNN (external)"]
        scores = run.joinpath("scores.parquet").read_bytes()
        for more in ((), ("--label", "x")):
            code, out, err = polarcast_here(*words, *more)
            assert (code, out, err.count("\n")) == (2, "", 1)
        code, _, err = polarcast_here(*words)
        assert "holds the forecasts of our CNN (external), which were scored on this machine — rank it as it is" in err
        assert run.joinpath("scores.parquet").read_bytes() == scores

    def test_one_made_elsewhere_is_verified_as_any_run(
        self, shards: Manifest, file: Path, tmp_path: Path, polarcast_here: Here
    ) -> None:
        run = made(tmp_path / "theirs", dict(np.load(file)), shards)
        known = json.loads(run.provenance_file.read_text())
        run.provenance_file.write_text(json.dumps({**known, "host": "elsewhere"}))
        words = ("leaderboard", "add", run.path, "--shards", shards.folder, "--forecasts")
        assert polarcast_here(*words, file)[:2] == (0, f"{run.path}: verified\n")
        code, _, err = polarcast_here(*words, file, "--arm", "radar")
        assert code == 2
        assert "--arm: describes a new run, and this one exists" in err
        with np.load(file) as content:
            np.savez(tmp_path / "other.npz", **{**content, "forecast": content["forecast"] * 1.01})
        assert "unverified, the " in polarcast_here(*words, tmp_path / "other.npz")[1]
        assert Entry(run.path).standing == "unverified"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("nowhere",), "no such folder"),
            (("new", "--forecasts", "{file}"), "--shards: forecasts are scored on shards"),
            (("new", "--forecasts", "none.npz", "--shards", "{shards}"), "none.npz: no such file"),
            (("new", "--forecasts", "{file}", "--shards", "nowhere"), "nowhere: no manifest.json — make shards with"),
            (
                ("new", "--forecasts", "{file}", "--shards", "{shards}", "--heights", "x"),
                "--heights: 'x' is not a list",
            ),
            (("new", "--forecasts", "{file}", "--shards", "{shards}", "--arm", "zh"), "--arm: unknown arm 'zh'"),
        ],
    )
    def test_wrong_calls_are_one_line(
        self, shards: Manifest, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        polarcast_here: Here, words: tuple[str, ...], message: str,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        given = [word.format(file=file, shards=shards.folder) for word in words]
        code, out, err = polarcast_here("leaderboard", "add", *given)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
        assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]

    @pytest.mark.parametrize("verb", ["train", "resume", "estimate", "evaluate", "predict", "explain", "base"])
    def test_there_is_no_model_to_train_or_run(
        self, shards: Manifest, archive: Archive, file: Path, tmp_path: Path, polarcast_here: Here, verb: str
    ) -> None:
        run = made(tmp_path / "mine", dict(np.load(file)), shards).path
        data, out = f"data.shards={shards.folder}", ("--out", tmp_path / "new")
        words: dict[str, tuple[object, ...]] = {
            "train": ("train", "demo", "model.name=external", data, *out),
            "resume": ("train", run / "config.yaml", data, "--out", run),
            "estimate": ("estimate", "demo", "model.name=external"),
            "evaluate": ("evaluate", run),
            "predict": ("predict", run, archive.root, tmp_path / "x.nc", "--event", "2"),
            "explain": ("explain", run),
            "base": ("train", "demo", "model.name=post_process", f"base={run}", data, *out),
        }
        code, printed, err = polarcast_here(*words[verb])
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert "its forecasts were made by other software, so it has no model — " in err
        assert {path.name for path in tmp_path.iterdir()} == {"mine", "mine.npz"}
        assert {path.name for path in run.iterdir()} == FILES

    def test_its_scores_can_be_shown(self, shards: Manifest, file: Path, tmp_path: Path, polarcast_here: Here) -> None:
        run = made(tmp_path / "mine", dict(np.load(file)), shards).path
        code, out, _ = polarcast_here("evaluate", run, "--recorded", "--scores", "rmse", "--json")
        assert code == 0
        assert json.loads(out)["events"] == 2


class TestPython:
    def test_scores_can_be_compared(self, shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
        tensors = {name: torch.from_numpy(of) for name, of in rain.items()}
        mine = pc.add_forecasts(tmp_path / "mine", tensors, shards.folder, label="our law")
        assert repr(mine) == f"Run({str(tmp_path / 'mine')!r}: external, radar, made by other software)"
        law = pc.open_run(finished(shards, tmp_path / "law", *BASELINE).path)
        found = pc.compare(law.evaluate(), mine.scores, "rmse")
        assert found.value == 0
        assert found.lacks_seeds
        for call in (mine.evaluate, mine.load_model, mine.explain):
            with pytest.raises(BadInput, match="made by other software"):
                call()
        assert mine.card == {}
        assert mine.log == []

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("out", {"out": 7}), ("forecasts", {"forecasts": None}), ("forecasts", {"forecasts": {"event": [1]}}),
            ("shards", {"shards": 7}), ("arm", {"arm": 7}), ("arm", {"arm": "zh"}), ("label", {"label": 7}),
            ("heights_km", {"heights_km": [1.0, 1.0]}), ("heights_km", {"heights_km": ["x"]}),
            ("seen_frames", {"seen_frames": 0}), ("seen_frames", {"seen_frames": 2}),
        ],
    )  # fmt: skip
    def test_wrong_arguments_are_named(
        self, shards: Manifest, rain: Arrays, tmp_path: Path, name: str, arguments: dict[str, Any]
    ) -> None:
        usual: dict[str, Any] = {"out": tmp_path / "new", "forecasts": rain, "shards": shards.folder}
        with pytest.raises(BadInput) as refused:
            pc.add_forecasts(**{**usual, **arguments})
        assert str(refused.value).startswith(f"{name}: ")
        assert "--" not in str(refused.value)
        assert list(tmp_path.iterdir()) == []

    def test_fixes_name_arguments(self, shards: Manifest, zh: Arrays, tmp_path: Path) -> None:
        one = {**zh, "forecast": zh["forecast"][:, :, :, :1]}
        with pytest.raises(BadInput, match="give theirs with heights_km, of 1, 3, 7 km"):
            pc.add_forecasts(tmp_path / "new", one, shards.folder, seen_frames=2)


class TestKind:
    def test_it_is_known_but_not_among_the_models(self) -> None:
        assert EXTERNAL not in MODELS
        assert get_model(EXTERNAL).external
        assert not any(model.external for model in MODELS.values())
        assert get_model(EXTERNAL).tasks == ("qpe", "nowcast")

    def test_its_keys_have_limits(self) -> None:
        for field in fields(get_model(EXTERNAL).config):
            assert isinstance(field.metadata["limits"], Limits)


def test_runs_scored_on_other_windows_or_lead_times_are_not_compared(
    shards: Manifest, zh: Arrays, tmp_path: Path
) -> None:
    """The first lead times and the last windows of a storm are easier."""
    for name in ("a", "b"):
        made(tmp_path / name, zh, shards)
    short = finished(shards, tmp_path / "short", *NOWCAST, "data.lead_frames=1", "data.seen_frames=3")
    evaluate(short, shards, short.output)
    board, other = make_boards(find_entries([tmp_path]), parse_score("csi@threshold=20"))
    assert [place.entry.name for place in board.places] == ["a", "b"]
    assert board.title.endswith(", lead time 6, 12, height 1, 3, 7")
    assert [place.entry.name for place in other.places] == ["short"]
    # At one lead time that all have, what is left are the windows: here, one of each event.
    [board] = make_boards(find_entries([tmp_path]), parse_score("csi@threshold=20,lead_time=6"))
    assert [place.entry.name for place in board.places] == ["a", "b", "short"]
    many = finished(shards, tmp_path / "many", *NOWCAST, "data.lead_frames=1", "data.seen_frames=1")
    evaluate(many, shards, many.output)
    [board] = make_boards(find_entries([tmp_path]), parse_score("csi@threshold=20,lead_time=6"))
    assert {e.name: why for e, why in board.unranked} == {"many": "scored on other windows of the events"}


def test_records_that_do_not_count_pixels_stay_ranked(shards: Manifest, zh: Arrays, tmp_path: Path) -> None:
    runs = [made(tmp_path / name, zh, shards) for name in ("a", "b", "c")]
    older = read_records(runs[2].output.scores)
    write_records(runs[2].output.scores, replace(older, sums={k: s for k, s in older.sums.items() if k != "observed"}))
    (runs[2].path / "verified.json").unlink()
    [board] = make_boards(find_entries([tmp_path]), parse_score("csi@threshold=20"))
    assert [place.entry.name for place in board.places] == ["a", "b", "c"]


def test_links_to_runs_are_followed_and_count_once(shards: Manifest, rain: Arrays, tmp_path: Path) -> None:
    run = made(tmp_path / "elsewhere" / "deep" / "mine", rain, shards).path
    board = tmp_path / "board"
    board.mkdir()
    (board / "first").symlink_to(run)
    (board / "second").symlink_to(run)
    (board / "up").symlink_to(tmp_path)
    (board / "self").symlink_to(board)
    (board / "gone").symlink_to(tmp_path / "nowhere")
    for given in ([board], [board / "first"], [board, run], [board, board / "second", tmp_path]):
        assert [entry.path for entry in find_entries(given)] == [run.resolve()]
    (board / "first").unlink()
    (board / "second").unlink()
    (board / "all").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="no scored run"):
        find_entries([board])  # a link to a folder of runs is not followed
    assert len(find_entries([board / "all"])) == 1  # unless it is named

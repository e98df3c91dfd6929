"""Wrong calls of all verbs: one line or the usage, early, without a traceback, and nothing left in the folder."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

import polarcast
from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput, Stopped, WorkFailed
from polarcast.data.folder_kind import checked_kind
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.hpc.cli.extensions import VERBS, add_verbs
from polarcast.hpc.utils.console import run_app
from tests.support import warm
from tests.support.finished_run import BASELINE, finished

Call = Callable[..., tuple[int, str, str]]

LIGHT = """
nonsense
train
--nonsense
data
data nonsense
data synth
data synth out --events many
data check nowhere
data check {file}
data check {empty}
data shard nowhere out
data shard {archive} {file}
data shard {archive} out --split nan/nan/nan
data shard {archive} out --split 0.5/0.5
data shard {archive} out --variables zz
data shard {archive} out --heights one
data shard {archive} out --heights nan
data shard {archive} out --workers many
data shard {archive} out --groups nowhere.csv
data shard {archive} out --groups day
data shard {archive} out --groups {file}
data index nowhere
data index {empty}
data explore nowhere out
data explore {archive} out --beside mars
data ingest
predict
predict nowhere in out.nc
predict {empty} in out.nc
predict {file} in out.nc
predict {run} nowhere out.nc
predict {run} {archive} out.txt
predict {run} {archive} {empty}.d/
predict {run} {archive} {file}/out.nc
predict {run} {archive} out.nc --members 0
predict {run} {archive} out.nc --members -1
predict {run} {archive} out.nc --members 1000000000
predict {run} {archive} out.nc --seed -1
predict {run} {archive} out.nc --seed 99999999999999999999
predict {run} {archive} out.nc --size 0
predict {run} {archive} out.nc --frames 3
predict {run} {archive} out.nc --frames a:b
predict {run} {archive} out.nc --frames 99999999999999999999:
predict {run} {archive} {long}.nc
perf
perf loader --rounds 0
perf loader --folder nowhere
perf loader --folder {file}
perf loader --size 0
perf writer --workers 0
perf writer --workers -2
perf writer --rounds -1
perf step --rounds 0
perf step --steps 0
perf step --size 100000000
perf step --processes 0
perf scaling --processes 1
perf scaling --gb-per-s nan
perf scaling --tflops 0
perf scaling --latency-us inf
perf scores --leads 0
perf scores --rounds 0
perf sampler nowhere
perf sampler {empty} --members 0
perf inference --members 0
perf inference --rounds nan
leaderboard
track
track replay
track suite
claim
submit
submit --array
doctor nonsense
train nonsense
train {file}
train demo data.shards=nowhere
train demo data.shards={file}
train demo data.shards={long}
train demo data.shards={shards} --out {file}
train demo data.shards={shards} --out {file}/run
train demo data.shards={shards} --processes 0
evaluate nowhere
evaluate {empty}
evaluate {file}
evaluate {run} --archive {archive} --split validation
evaluate {run} --archive {archive} --split test
estimate nonsense
estimate demo --size 0
estimate demo --size -1
estimate demo --gpu-gib nan
estimate demo --tflops 0
bench nonsense
bench {file}
bench nowhere.yaml
bench {empty}/nowhere.yaml
bench demo --workers -2
bench demo --archive nowhere
bench demo --out {file}
leaderboard rank nowhere
leaderboard nowhere --score nonsense
leaderboard {empty} --html {file}/board.html
leaderboard add nowhere
track replay nowhere
track suite nowhere
track suite {empty}
track template nowhere
claim nowhere.npz --shards {empty}
claim {file} --shards {empty}
claim {file} --shards {empty} --split nonsense
submit -- nonsense
submit --cluster nonsense -- train demo
submit --dry-run --nodes 0 -- train demo
submit --by nonsense -- train demo
sweep nonsense
sweep {file}
sweep tiny --trials 0
sweep tiny --at-once -1
sweep tiny --out {file}
perf step nonsense
data synth out --preset mars
data synth out --events 0
data synth out --size 0
data synth out --frames -1
data synth out --workers -2
data shard {archive} out --workers -2
data shard {archive} out --shard-mb -1
data ingest out nowhere
data ingest out {file} --size 0
data ingest out {file} --min-dbz nan
data ingest out {file} --workers -2
"""
"""Wrong by themselves: refused before torch is imported."""

OTHERS = """
data synth {shards}
data synth {run}
data synth {suite}
data synth {sweep}
train demo data.shards={shards} --out {shards}
train demo data.shards={shards} --out {archive}
train demo data.shards={shards} --out {suite}
train demo data.shards={shards} --out {sweep}
bench demo --out {shards}
bench demo --out {archive}
bench demo --out {run}
bench demo --out {sweep}
sweep tiny --out {shards}
sweep tiny --out {archive}
sweep tiny --out {run} --resume
sweep tiny --out {suite}
"""
"""Output folders that hold something else."""

HEAVY = """
train demo nonsense=1
train demo seed=x
evaluate {run} --archive nowhere
evaluate {run} --split nonsense
evaluate {run} --archive {archive} --recorded
evaluate {run} --scores nonsense
evaluate {run} --by nonsense
evaluate {run} --aggregation nonsense
bench demo --split nan/nan/nan
leaderboard add {run} --forecasts {file}
track replay {run} --to nonsense
track suite {run}
claim {file} --shards {empty} --says nonsense
predict {run} {archive} out.nc
predict {run} {archive} out.nc --event 99999
predict {run} {archive} out.nc --event 1 --frames 90:
predict {run} {archive} out.nc --event 1 --frames 2:1
predict {run} {archive} out.nc --event 1 --issued 3
predict {run} {file} out.nc
predict {run} {empty} out.nc
perf step demo nonsense=1
perf inference demo model=
"""
"""Wrong calls whose check needs the configuration or the data."""


@pytest.fixture(autouse=True)
def _no_work() -> Iterator[None]:
    """Stop a call that is not refused, but works, by its CPU time."""

    def stop(*_: object) -> None:
        raise TimeoutError("the call was not refused within seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, 10)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.fixture(autouse=True)
def _ends_by_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """After training in this process, exit_process would end the tests."""
    monkeypatch.setattr("polarcast.hpc.utils.console.exit_process", sys.exit)


def calls(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.fixture(scope="module")
def places(archive: Archive, shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path | str]:
    """Paths that the calls name."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "empty").mkdir()
    for kind, marker in (("suite", "suite.yaml"), ("sweep", "space.json")):
        (folder / kind).mkdir()
        (folder / kind / marker).write_text("{}")
    (folder / "file").write_text("nothing useful")
    run = finished(shards, folder / "run", *BASELINE)
    return {
        "archive": archive.root, "shards": shards.folder, "run": run.path, "empty": folder / "empty",
        "file": folder / "file", "long": "n" * 300, "suite": folder / "suite", "sweep": folder / "sweep",
    }  # fmt: skip


def check_message(code: int, err: str) -> None:
    """Check that a call ended with one line, or with the usage."""
    assert "Traceback" not in err
    assert code in (1, 2)
    if "Usage: " in err or "─ Error ─" in err:
        assert code == 2
    else:
        assert [line[:11] for line in err.splitlines()] == ["polarcast: "], err
        assert "unexpected" not in err


@pytest.mark.parametrize("line", [*calls(LIGHT), *calls(HEAVY)])
def test_a_wrong_call_prints_no_traceback_and_leaves_nothing(
    line: str, places: Mapping[str, Path | str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polarcast_here: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.process_time()
    code, out, err = polarcast_here(*(word.format(**places) for word in line.split()))
    seconds = time.process_time() - started
    check_message(code, err or out)
    assert list(tmp_path.iterdir()) == []
    assert seconds < 2


@pytest.mark.parametrize("line", calls(OTHERS))
def test_a_folder_that_holds_something_else_is_no_output(
    line: str, places: Mapping[str, Path | str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polarcast_here: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [places[name] for name in ("shards", "archive", "run", "suite", "sweep")]
    before = [sorted(Path(folder).iterdir()) for folder in folders]
    code, _, err = polarcast_here(*(word.format(**places) for word in line.split()))
    assert (code, err.count("\n")) == (2, 1)
    assert "choose another folder" in err
    assert [sorted(Path(folder).iterdir()) for folder in folders] == before
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_notes_is_free_and_one_of_another_kind_is_not(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert checked_kind(tmp_path, "a run") == tmp_path
    assert checked_kind(tmp_path / "new", "a suite") == tmp_path / "new"
    (tmp_path / "config.yaml").write_text("{}")
    assert checked_kind(tmp_path, "a run") == tmp_path
    with pytest.raises(BadInput, match="is a run — choose another folder"):
        checked_kind(tmp_path, "an archive")


def test_python_trains_into_no_folder_without_a_name_or_of_another_kind(
    shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = polarcast.load_config("demo", [f"data.shards={shards.folder}"])
    with pytest.raises(BadInput, match="is empty"):
        polarcast.train(config, "")
    with pytest.raises(BadInput, match="is a folder of shards"):
        polarcast.train(config, shards.folder)
    assert list(tmp_path.iterdir()) == []


EMPTY = [
    ["data", "synth", ""],
    ["data", "shard", "", "out"],
    ["data", "shard", "archive", "out", "--variables", ""],
    ["data", "shard", "archive", "out", "--heights="],
    ["train", "demo", "--out", ""],
    ["train", "demo", "--out="],
    ["bench", "demo", "--out", ""],
    ["bench", "demo", "--split", ""],
    ["sweep", "tiny", "--out", ""],
    ["leaderboard", "runs", "--score", ""],
    ["leaderboard", "runs", "--wandb", ""],
    [""],
]


@pytest.mark.parametrize("words", EMPTY, ids=" ".join)
def test_an_empty_word_is_neither_this_folder_nor_the_default(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polarcast_here: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = polarcast_here(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "is empty" in err
    assert list(tmp_path.iterdir()) == []


MANY = """
import json, sys
from polarcast.hpc.cli.app import main
for words in json.load(sys.stdin):
    sys.argv = ["polarcast", *words]
    try:
        main()
    except SystemExit:
        pass
    print(" ".join(words), "torch" in sys.modules, file=sys.stderr)
"""


def test_a_call_that_is_wrong_by_itself_does_not_wait_for_torch(
    places: Mapping[str, Path | str], tmp_path: Path
) -> None:
    words = [[word.format(**places) for word in line.split()] for line in calls(LIGHT)]
    command = [sys.executable, "-c", MANY]
    done = subprocess.run(command, input=json.dumps(words), capture_output=True, text=True, cwd=tmp_path, timeout=200)
    ends = [line.rsplit(" ", 1) for line in done.stderr.splitlines() if line.endswith(("True", "False"))]
    assert [call for call, torch in ends if torch == "True"] == []
    assert len(ends) == len(words)


def fails(error: BaseException) -> Callable[[], None]:
    def app() -> None:
        raise error

    return app


def ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        run_app(fails(error))
    return int(end.value.code or 0), capsys.readouterr().err


NAMES = (
    *("ENOENT", "ENOTDIR", "EISDIR", "ENOSPC", "EACCES", "EROFS", "EDQUOT", "ENAMETOOLONG", "ELOOP", "EMFILE", "EPERM"),
    *("EEXIST", "ENOTEMPTY", "EXDEV"),
)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_the_system_about_a_path_is_no_traceback(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    number = getattr(errno, name)
    code, err = ended(OSError(number, os.strerror(number), "/given/path"), capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"polarcast: /given/path: {os.strerror(number)} — ")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("of 80 GiB"), OSError(errno.EIO, "bad", "x")],
)
def test_a_lack_of_memory_or_a_bad_disk_is_no_bug(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = ended(error, capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert "unexpected" not in err


def test_an_unknown_error_shows_no_traceback_and_keeps_it_from_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code, err = ended(KeyError("http://me:open-sesame@host"), capsys)
    [kept] = tmp_path.iterdir()
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("polarcast: unexpected KeyError: ")
    assert str(kept) in err
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "Traceback (most recent call last)" in kept.read_text()
    assert "open-sesame" not in err + kept.read_text()


def test_a_traceback_is_not_lost_where_no_folder_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for name in ("TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file" / "folder"))
    _, err = ended(KeyError("x"), capsys)
    assert err.splitlines()[0].startswith("polarcast: unexpected KeyError: 'x' — traceback below")
    assert "Traceback (most recent call last)" in err


def test_text_of_strangers_moves_no_cursor_and_adds_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "x\npolarcast: done\x1b[2J\x9b\u202e\udcff"
    for error in (BadInput(hostile, hostile, hostile), WorkFailed(hostile), KeyError(hostile), Stopped(hostile)):
        _, err = ended(error, capsys)
        assert err.count("\n") == 1
        assert err.rstrip("\n").isprintable()


class Broken(EntryPoint):
    """Entry point of a package whose import fails in one of several ways."""

    def load(self) -> object:
        if self.value == "exits":
            raise SystemExit(3)
        if self.value == "no function":
            return 7
        raise ImportError("no module\nnamed [red]\x1b[31m")


@pytest.mark.parametrize("value", ["missing", "exits", "no function"])
def test_a_broken_verb_of_another_package_breaks_no_other_verb(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    app.command("sound")(lambda: print("works"))
    add_verbs(app, [Broken("theirs", value, VERBS)])
    result = CliRunner().invoke(app, ["--help"])
    assert (result.exit_code, "theirs: " in result.output) == (0, True)
    assert CliRunner().invoke(app, ["sound"]).output == "works\n"
    with pytest.raises(SystemExit) as end:
        run_app(lambda: app(["theirs", "word", "--option", "3"]))
    err = capsys.readouterr().err
    assert (end.value.code, err.count("\n")) == (1, 1)
    assert err.startswith("polarcast: theirs: ")


def test_a_verb_of_another_package_replaces_none_of_ours() -> None:
    app = typer.Typer()
    app.command("train")(lambda: print("ours"))
    app.command("other")(lambda: None)
    add_verbs(app, [EntryPoint("train", "builtins:print", VERBS)])
    assert CliRunner().invoke(app, ["train"]).output == "ours\n"
    assert "left out" in CliRunner().invoke(app, ["--help"]).output


def test_an_evaluation_without_records_writes_no_shards(places: Mapping[str, Path | str], polarcast_here: Call) -> None:
    code, _, err = polarcast_here("evaluate", places["run"], "--archive", places["archive"], "--recorded")
    check_message(code, err)
    assert not (Path(places["run"]) / "on").exists()


SLOW = """
import tempfile, time
from polarcast.hpc.utils.console import run_app
def app():
    with tempfile.TemporaryDirectory(dir={folder!r}):
        print("ready", flush=True)
        time.sleep(60)
run_app(app)
"""


def test_a_terminated_command_leaves_no_temporary_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW.format(folder=str(tmp_path))]
    with warm.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert (process.returncode, list(tmp_path.iterdir())) == (143, [])
    assert err == "polarcast: terminated — run the same command to continue\n"


def test_a_terminated_command_does_not_continue_after_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)

    def app() -> None:
        with suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
        raise BadInput("went on")

    with pytest.raises(SystemExit) as end:
        run_app(app)
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_that_is_set_stays() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with pytest.raises(SystemExit) as end:
            run_app(lambda: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (end.value.code, received) == (0, [signal.SIGTERM])


@pytest.mark.parametrize(("location", "reason"), [
    ("https://nowhere.invalid/s?token=open-sesame", "curl ended with code 6"),
    ("pipe:false {name}", "the command ended with code 1"),
])  # fmt: skip
def test_shards_that_can_not_be_reached_are_named_soon(location: str, reason: str) -> None:
    started = time.monotonic()
    with pytest.raises(BadInput) as refused:
        read_manifest(location)
    assert f"can't be read ({reason})" in str(refused.value)
    assert "open-sesame" not in str(refused.value)
    assert "(([" not in str(refused.value)
    assert time.monotonic() - started < 20

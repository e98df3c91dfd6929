"""A run folder belongs to one training: others are refused, and refused trainings leave nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import polarcast as pc
from polarcast.data.archive import open_archive
from polarcast.data.files import sole_writer
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.runs.folder import RunFolder
from tests.support import warm

SMALL = [
    "model.widths=[4,8]", "match_params=false", "train.steps=4", "train.validate_every=2", "train.global_batch=4",
    "train.threads=1",
]  # fmt: skip


def small(shards: Path | str, *overrides: str) -> pc.RunConfig:
    return pc.load_config("demo", [f"data.shards={shards}", *SMALL, *overrides])


@pytest.fixture(scope="module")
def finished(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pc.train(small(shards.folder), tmp_path_factory.mktemp("finished") / "run").path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.steps=6"], "train.steps=4, got 6"),
        (["arm=radar", "train.steps=6"], "arm=dualpol, got radar"),
        (["model.name=wf_unet"], "model.name=unet, got wf_unet"),
        (["model.widths=[4,16]"], "model.widths=[4, 8], got [4, 16]"),
        (["evaluate.members=2"], "evaluate.members=1, got 2"),
    ],
)
def test_a_finished_run_is_not_given_for_another_training(
    shards: Manifest, finished: Path, overrides: list[str], words: str
) -> None:
    if "model.name=wf_unet" in overrides:
        config = pc.load_config("demo", [f"data.shards={shards.folder}", *SMALL[1:], *overrides])
    else:
        config = small(shards.folder, *overrides)
    before = content(finished)
    with pytest.raises(pc.BadInput) as refused:
        pc.train(config, finished)
    assert f"{finished}: contains a run with another configuration: {words} — choose another folder" == str(
        refused.value
    )
    assert content(finished) == before


def test_an_unfinished_run_names_what_differs(shards: Manifest, tmp_path: Path) -> None:
    RunFolder(tmp_path).start(small(shards.folder))
    with pytest.raises(pc.BadInput, match=r"train\.steps=4, got 6"):
        pc.train(small(shards.folder, "train.steps=6"), tmp_path)


def test_weights_without_a_configuration_are_not_taken_for_a_finished_run(
    shards: Manifest, finished: Path, tmp_path: Path
) -> None:
    shutil.copy(finished / "model.safetensors", tmp_path)
    with pytest.raises(pc.BadInput, match="weights"):
        pc.train(small(shards.folder), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.fixture
def damaged(shards: Manifest, tmp_path: Path) -> Path:
    """Shards of which each training shard is damaged in the middle."""
    copy = shutil.copytree(shards.folder, tmp_path / "damaged")
    for path in copy.glob("*.tar"):
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 0xFF
        path.write_bytes(whole)
    return copy


@pytest.mark.parametrize("fault", ["shards", "damaged", "streamed", "grid", "height", "base"])
def test_a_refused_training_claims_no_folder(shards: Manifest, damaged: Path, tmp_path: Path, fault: str) -> None:
    base = tmp_path / "base"
    RunFolder(base).start(small(shards.folder))
    needs_base = ["model.name=residual_diffusion", f"base={base}"]
    wrong = {
        "shards": (tmp_path, []),
        "damaged": (damaged, ["data.max_bad_share=0.01"]),
        "streamed": (damaged, ["data.reader=stream", "data.stream.retries=0"]),
        "grid": (shards.folder, ["data.crop=64"]),
        "height": (shards.folder, ["data.heights_km=[2.5]"]),
        "base": (shards.folder, needs_base),
    }
    folder, overrides = wrong[fault]
    config = pc.load_config("demo", [f"data.shards={folder}", *SMALL[1:], *overrides])
    out = tmp_path / "runs" / "a"
    with pytest.raises(pc.BadInput):
        pc.train(config, out)
    assert not (tmp_path / "runs").exists()
    out.mkdir(parents=True)
    with pytest.raises(pc.BadInput):
        pc.train(config, out)
    assert list(out.iterdir()) == []
    assert pc.train(small(shards.folder, "seed=5"), out).is_trained


def test_an_output_that_is_a_file_is_not_a_traceback(shards: Manifest, tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("kept")
    for out in (tmp_path / "afile", tmp_path / "afile" / "run"):
        with pytest.raises(pc.BadInput, match="folder"):
            pc.train(small(shards.folder), out)
    assert (tmp_path / "afile").read_text() == "kept"


def test_a_removed_lock_file_lets_no_two_writers_in(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sole_writer(folder):
        (folder / ".lock").unlink()
        with sole_writer(folder), pytest.raises(pc.BadInput, match="another process"), sole_writer(folder):
            pass
        (folder / "file").touch()
    assert {path.name for path in folder.iterdir()} <= {"file", ".lock"}


def test_a_link_as_lock_file_reaches_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises((pc.BadInput, OSError)), sole_writer(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


SLOW_SHARDS = "pipe:case {{name}} in manifest.json) cat {folder}/{{name}};; *) sleep 1000;; esac"


@pytest.mark.parametrize("waits_for", ["manifest", "shards"])
@pytest.mark.multiprocess
def test_a_training_that_waits_for_data_does_not_ignore_a_signal(
    shards: Manifest, tmp_path: Path, waits_for: str
) -> None:
    location = "pipe:echo {name}; sleep 1000" if waits_for == "manifest" else SLOW_SHARDS.format(folder=shards.folder)
    overrides = [*SMALL, "data.reader=stream", "data.stream.stall_seconds=900", f"data.shards={location}"]
    command = [sys.executable, "-m", "polarcast.hpc.cli", "train", "demo", *overrides, "--out", str(tmp_path / "run")]
    with (tmp_path / "errors").open("w") as errors:
        process = warm.Popen(command, stderr=errors, start_new_session=True)
    try:
        assert _child_of(process, "sleep", seconds=60), (tmp_path / "errors").read_text()
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    message = (tmp_path / "errors").read_text().strip().splitlines()[-1]
    assert message.startswith("polarcast: stopped by SIGTERM; no step ")
    assert code == 143
    assert not (tmp_path / "run").exists()


def _child_of(process: "subprocess.Popen[bytes]", name: str, seconds: float) -> bool:
    """Wait until a process in the group of another has a name."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                head, tail = stat.read_text().rsplit(")", 1)
            except OSError:
                continue
            if head.split("(", 1)[1] == name and int(tail.split()[2]) == process.pid:
                return True
        time.sleep(0.05)
    return False


def test_a_second_signal_ends_what_the_first_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from polarcast.hpc.distributed import preemption
    from polarcast.hpc.distributed.world import World

    with preemption.StopFlag(World(), 0, env={}) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # at once: delivered by a launcher and its group
        assert stop.agreed() == "SIGTERM"
        monkeypatch.setattr(preemption, "SECONDS_TO_REPEAT", -1)
        with pytest.raises(pc.Stopped, match="second SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_folder_is_not_continued_on_other_data(shards: Manifest, finished: Path, tmp_path: Path) -> None:
    """Neither a finished run nor one that goes on; a copy of the same shards elsewhere is the same data."""
    copy = shutil.copytree(shards.folder, tmp_path / "copy")
    write_archive(tmp_path / "archive", events=6, size=32, seed=4, frames=4, preset="tiny")
    other = write_shards(open_archive(tmp_path / "archive"), tmp_path / "other", split="0.4/0.3/0.3").folder
    run = RunFolder(Path(shutil.copytree(finished, tmp_path / "run")))
    for unfinished in (False, True):
        if unfinished:
            run.weights_file.unlink()
        before = run.config_file.read_bytes()
        with pytest.raises(pc.BadInput, match="contains a run on other data"):
            pc.train(small(other), run.path)
        assert run.config_file.read_bytes() == before
    pc.train(small(copy), run.path)
    assert run.config().data.shards == str(copy)

"""A full disk or a kill leaves each file of a run as it was, or replaced as a whole."""

import os
import re
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import polarcast
from polarcast.data.errors import BadInput
from polarcast.data.files import write_bytes, write_json, write_private, write_text
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.inference.netcdf import Dataset, Variable, write_netcdf
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.checkpoint import Progress, TrainState
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.model_card import write_card
from tests.support.finished_run import BASELINE, finished

PACKAGE = Path(polarcast.__file__).parents[1]
LAYERS = ("data", "models", "hpc", "slurm", "sweeps")
IN_PLACE = {
    "data/archive.py",  # frames inside a folder that is renamed at the end
    "data/files.py",  # the writers themselves
    "data/ingest/unpack.py",  # a temporary file
    "data/shards/pack.py",  # shards inside a folder that is renamed at the end
    "data/shards/write.py",
    "data/synth/make_drop_table.py",  # makes a file of the package, by hand
    "hpc/bench/executor.py",  # output of a process
    "hpc/bench/worker.py",  # progress for the parent, many times a second
    "hpc/runs/checkpoint.py",  # files inside a folder that is renamed at the end
    "hpc/runs/folder.py",  # the log is appended to; a line that is cut is skipped
    "hpc/utils/failures.py",  # a traceback
    "hpc/utils/streams.py",
    "sweeps/journal.py",  # appended to
    "sweeps/study.py",  # a lock
    "sweeps/trial.py",  # output of a process
}
"""Files that write in place, each for a reason."""
WRITES = re.compile(
    r"\.write_(text|bytes)\(|open\([^)]*[\"'][wax]b?\+?[\"']|savez|np\.save\(|savefig\(\w*(out|path|file)\b"
)
SEES = re.compile(r"replacing\(|partial\b|BytesIO|content\b")


def test_no_new_writer_works_in_place() -> None:
    found = set()
    for path in (p for layer in LAYERS for p in (PACKAGE / layer).rglob("*.py") if "perf" not in p.parts):
        lines = [line for line in path.read_text("utf-8").splitlines() if WRITES.search(line)]
        if any(not SEES.search(line) and "stream" not in line for line in lines):
            found.add(str(path.relative_to(PACKAGE)))
    assert found <= IN_PLACE


Write = Callable[[RunFolder, Manifest], None]


def _state(step: int) -> TrainState:
    weights = {"bias": torch.full((64,), float(step))}
    return TrainState(step, weights, {}, {f"bias/{name}": torch.zeros(64) for name in ("exp_avg", "exp_avg_sq")})


def _evaluate(run: RunFolder, shards: Manifest) -> None:
    evaluate(run, shards, run.output)


def _netcdf(run: RunFolder, shards: Manifest) -> None:
    values = torch.rand(64).numpy()
    write_netcdf(run.path / "rain.nc", Dataset({"rain": Variable(("x",), values)}))


WRITERS: dict[str, Write] = {
    "config.yaml": lambda run, shards: run.start(_moved(run)),
    "card.json": lambda run, shards: write_card(run, resolve(_moved(run)), shards),
    "model.safetensors": lambda run, _: checkpoint.save_weights(run.weights_file, {"bias": torch.rand(64)}),
    "checkpoints": lambda run, _: _saved(run, 3),
    "log.jsonl": lambda run, _: run.rewind_log(1),
    "scores.parquet": _evaluate,
    "rain.nc": _netcdf,
    "text": lambda run, _: write_text(run.path / "text", "text " * 99),
    "bytes": lambda run, _: write_bytes(run.path / "bytes", os.urandom(999)),
    "json": lambda run, _: write_json(run.path / "json", list(range(99))),
    "private": lambda run, _: write_private(run.path / "private", "secret" * 99),
}


def _moved(run: RunFolder) -> polarcast.RunConfig:
    config = run.config()
    return replace(config, data=replace(config.data, workers=config.data.workers + 1))


def _saved(run: RunFolder, step: int) -> None:
    checkpoint.save(run.checkpoints, _state(step), Progress(step), keep=9)


@pytest.fixture
def run(shards: Manifest, tmp_path: Path) -> RunFolder:
    """A run with a version of each file."""
    run = finished(shards, tmp_path / "run", *BASELINE)
    for step in (1, 2):
        run.log(event="step", step=step, loss=0.5, filler="x" * 200)
        _saved(run, step)
    for name in ("json", "text", "bytes", "private"):
        (run.path / name).write_text("old")
    _netcdf(run, shards)
    (run.output.cases).parent.mkdir()
    (run.output.cases).write_bytes(b"old")
    (run.output.scores).write_bytes(b"old")
    return run


def content(run: RunFolder) -> dict[str, bytes]:
    files = (path for path in run.path.rglob("*") if path.is_file())
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_destroys_nothing(run: RunFolder, shards: Manifest, name: str) -> None:
    before, limits = content(run), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(Exception, match=r"File too large|os error 27") as failed:
            WRITERS[name](run, shards)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not isinstance(failed.value, BadInput)
    assert content(run) == before


@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_before_the_rename_destroys_nothing(run: RunFolder, shards: Manifest, name: str) -> None:
    before = content(run)
    if (child := os.fork()) == 0:
        torch.set_num_threads(1)
        os.replace = os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        try:
            WRITERS[name](run, shards)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    after = content(run)
    assert {path: after[path] for path in before} == before
    assert all(any(part.startswith(".") for part in Path(path).parts) for path in after.keys() - before.keys())
    WRITERS[name](run, shards)
    assert content(run) != before


def test_a_log_that_is_cut_loses_one_line(run: RunFolder) -> None:
    whole = run.log_file.read_bytes()
    run.log_file.write_bytes(whole[:-20])
    assert [record["step"] for record in run.records()] == [1]
    run.log_file.write_bytes(whole + b"5\n[1]\n{}\n\xff\xfe\n" + b'{"event": "step", "step": "x"}\n')
    assert [record["step"] for record in run.records()] == [1, 2]

"""A folder in which the commands and Python blocks of a documentation page are run, shortened.

It holds `storms` (an archive), `shards` made of it, the runs `runs/radar`, `runs/dualpol` and `runs/furenet`, the suite
`runs/demo`, and `slurm/` of the checkout. Each page gets a copy of its own, and its blocks run in order.

What is shortened: trainings make two steps of two samples on one thread (`SHORT`); archives have 20 storms of 32 × 32
pixels at most; `bench demo` is a suite of two models, and other suites train for two steps; Shapley values are of four
windows and two donors; a sweep has one trial of six steps, and one more when it is resumed; the figures of a suite are
left out. Sweeps start no Ray (`--worker`): tests/sweeps does. A folder of the sandbox that a command makes anew is
removed first.
"""

import contextlib
import glob
import io
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docs.tools.blocks import Block, Command, blocks, commands
from docs.tools.commands import SANDBOX_PROGRAMS
from tests.support import warm

SHORT = (
    "train.steps=2", "train.validate_every=2", "train.validate_windows=2", "train.global_batch=2",
    "train.micro_batch=2", "train.warmup_steps=1", "train.threads=1", "data.workers=0",
)  # fmt: skip
"""Overrides that are added to those of a page."""
_SHORT_SWEEP = ("train.steps=6", "train.validate_every=2", *SHORT[-3:])
"""Three validations, by which a sweep may stop a trial."""
_PREPARED = ("storms", "shards", "runs/radar", "runs/dualpol", "runs/furenet", "runs/demo")
_NOWCAST = (
    "task=nowcast", "data.heights_km=[3.0]", "model.name=furenet", "model.widths=[4,4,4,4]", "model.squeeze=4",
    "match_params=false",
)  # fmt: skip
_SUITE = """
name: demo
data: {synth: {events: 24, frames: 2, size: 32, preset: tiny, seed: 1}, split: 0.3/0.1/0.6}
models:
  fitted: {label: "Z–R, R(ZH, ZDR) fitted", set: {model: {name: power_law, coefficients: fitted}}}
  unet:
    label: U-Net
    set:
      model: {widths: [8, 16], first_guess: power_law}
      train: {steps: 2, validate_every: 2, validate_windows: 2, global_batch: 2, micro_batch: 2}
tables:
  table_8_1: {title: Table 8.1 — rain rate from radar (ZH) and from dual-pol (ZH ZDR), metrics: [rmse, nb]}
"""
_SHORT_SUITE = "short/demo.yaml"
_LONG = re.compile(r"steps: \d+, validate_every: \d+")
"""How the suite of a page gives the length of its trainings."""
_WITHOUT_FIGURES = """
import sys
import polarcast.hpc.bench.figures.drawn as drawn
from polarcast.hpc.cli.app import main
drawn.drawn_or_draw = lambda *_: []
if __name__ == "__main__":
    sys.exit(main())
"""
_SECONDS = 900
_EVENTS = 20  # of 24, `data check` takes the fourth frame of event 20 for one of another time: it is so small
_TAIL = 1500


@dataclass
class Sandbox:
    """A folder for one page, and what its blocks have changed."""

    folder: Path
    ran: int = 0
    """Blocks that ran without a failure."""
    failures: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    prepared: set[str] = field(default_factory=lambda: set(_PREPARED))
    """Folders that the page has not made itself."""

    def run_page(self, page: Path, root: Path) -> None:
        """Run the blocks of a page in order, to the first failure."""
        with contextlib.ExitStack() as stack:
            session: _PythonSession | None = None
            for block in blocks(page, root):
                if block.file:
                    self._write(block.file, block.text)
                elif block.is_run and block.language == "bash":
                    self._run_commands(block)
                elif block.is_run:
                    session = session or stack.enter_context(_PythonSession(self.folder, self.environment))
                    self._note(session.run(block), f"{block.page}:{block.line}")
                if self.failures:
                    return
                self.ran += block.is_run

    def _run_commands(self, block: Block) -> None:
        for command in commands(block):
            for words in command.programs:
                if words[0] == "export":
                    self.environment |= dict(word.split("=", 1) for word in words[1:])
            if words_of_polarcast := _polarcast_words(command):
                self._note(self._polarcast(words_of_polarcast, command.assignments), command.where)
            elif all(words[0] in SANDBOX_PROGRAMS for words in command.programs):
                self._note(self._shell(command.text), command.where)

    def _note(self, failure: str, where: str) -> None:
        if failure:
            self.failures.append(f"{where}: {failure}")

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _polarcast(self, words: Sequence[str], assignments: dict[str, str]) -> str:
        expanded = [name for word in words for name in self._expanded(word)]
        shortened = self._shortened(expanded)
        env = self.environment | assignments
        done = warm.run(_command(shortened), cwd=self.folder, env=env, capture_output=True, timeout=_SECONDS)
        return _failure(f"polarcast {' '.join(shortened)}", done)

    def _shell(self, text: str) -> str:
        command = ["bash", "-euc", text]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, timeout=_SECONDS)
        return _failure(text, done)

    def _expanded(self, word: str) -> list[str]:
        """Return the files that a pattern of the shell matches, or the word."""
        is_pattern = "=" not in word and any(mark in word for mark in "*?")
        return (sorted(glob.glob(word, root_dir=self.folder)) if is_pattern else []) or [word]

    def _shortened(self, words: Sequence[str]) -> list[str]:
        """Return the words with what makes the command short, after removing what it makes anew."""
        verb = " ".join(words[: 2 if words[0] in ("data", "leaderboard", "track") else 1])
        short = _SHORTENED.get(verb, _as_it_is)(list(words))
        if verb in ("data synth", "data shard"):
            self._remove(short[2 if verb == "data synth" else 3])
        elif verb == "bench" and (self.folder / short[1]).is_file():
            self._shorten_suite(short[1])
        elif verb in ("train", "sweep") and "--out" in words:
            self._remove(words[words.index("--out") + 1])
        return short

    def _shorten_suite(self, name: str) -> None:
        text = (self.folder / name).read_text(encoding="utf-8")
        (self.folder / name).write_text(_LONG.sub("steps: 2, validate_every: 2", text), encoding="utf-8")

    def _remove(self, name: str) -> None:
        if name.rstrip("/") in self.prepared:
            self.prepared.discard(name.rstrip("/"))
            shutil.rmtree(self.folder / name)


def _command(words: Sequence[str]) -> list[str]:
    """Return the command that runs `polarcast`; the figures of a suite take most of its time, and are left out."""
    draws = words[0] in ("bench", "evaluate", "finetune") and "--processes" not in words
    return [sys.executable, "-c", _WITHOUT_FIGURES, *words] if draws else warm.polarcast(*words)


def _as_it_is(words: list[str]) -> list[str]:
    return words


def _trained(words: list[str]) -> list[str]:
    return [*words, *SHORT] if "--help" not in words else words


def _synthesized(words: list[str]) -> list[str]:
    wished = int(words[words.index("--events") + 1]) if "--events" in words else _EVENTS
    frames = [] if "--frames" in words else ["--frames", "21"]
    return [*words, "--events", str(min(wished, _EVENTS)), "--size", "32", *frames]


def _benched(words: list[str]) -> list[str]:
    return [_SHORT_SUITE if word == "demo" else word for word in words]


def _explained(words: list[str]) -> list[str]:
    return words if "--retrained" in words else [*words, "--windows", "4", "--background", "2"]


def _swept(words: list[str]) -> list[str]:
    if "--results-only" in words:
        return words
    return [*words, *_SHORT_SWEEP, "--worker", "--trials", "2" if "--resume" in words else "1"]


_SHORTENED: dict[str, Callable[[list[str]], list[str]]] = {
    "train": _trained,
    "data synth": _synthesized,
    "bench": _benched,
    "explain": _explained,
    "sweep": _swept,
}
"""How a verb is shortened; others run as they are."""


def _polarcast_words(command: Command) -> Sequence[str]:
    """Return the words after `polarcast` if the command is one."""
    [words] = command.programs if len(command.programs) == 1 else [("",)]
    return words[1:] if words[0].rpartition("/")[2] == "polarcast" else ()


def _failure(text: str, done: "subprocess.CompletedProcess[bytes]") -> str:
    if done.returncode == 0:
        return ""
    output = (done.stdout + done.stderr).decode(errors="replace")
    return f"exit code {done.returncode} of: {text}\n{output[-_TAIL:]}"


class _PythonSession:
    """An interpreter in the sandbox that runs the Python blocks of a page one after another."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        start = f"import sys; sys.path.insert(0, {str(warm.PROJECT)!r}); from tests.support import docs_sandbox; "
        command = [sys.executable, "-c", f"{start}docs_sandbox.serve()"]
        pipe = subprocess.PIPE
        self._process = warm.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> "_PythonSession":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(_SECONDS)
        assert self._process.stdout
        self._process.stdout.close()

    def run(self, block: Block) -> str:
        """Run a block; return its failure, or nothing."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([f"{block.page}, line {block.line}", block.text]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        return str(json.loads(answer)) if answer else "the interpreter has ended"


def serve() -> None:
    """Run blocks of Python from standard input in one namespace, and answer each with its failure or nothing."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a block prints
    _shorten_python()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for request in sys.stdin:
        name, text = json.loads(request)
        failure = ""
        try:
            exec(compile(text, name, "exec"), namespace)
        except BaseException:
            printed = io.StringIO()
            traceback.print_exc(file=printed)
            failure = printed.getvalue()[-_TAIL:]
        answers.write(json.dumps(failure) + "\n")
        answers.flush()


def _shorten_python() -> None:
    """Shorten what `polarcast.load_config` returns, and remove a prepared run that is trained anew."""
    import polarcast as pc

    load, train, prepared = pc.load_config, pc.train, set(_PREPARED)

    def load_short(source: Any, overrides: Any = (), **options: Any) -> Any:
        return load(source, [*overrides, *SHORT], **options)

    def train_anew(config: Any, out: Any, on_step: Any = None) -> Any:
        if str(out) in prepared:
            prepared.discard(str(out))
            shutil.rmtree(out)
        return train(config, out, on_step)

    pc.load_config, pc.train = load_short, train_anew


def prepare(folder: Path) -> None:
    """Fill a new folder with what pages may use."""
    shutil.copytree(warm.PROJECT / "slurm", folder / "slurm", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / _SHORT_SUITE).parent.mkdir()
    (folder / _SHORT_SUITE).write_text(_SUITE, encoding="utf-8")
    for words in _preparation():
        done = warm.run(_command(words), cwd=folder, capture_output=True, timeout=_SECONDS)
        assert not (failure := _failure(" ".join(words), done)), failure


def _preparation() -> list[list[str]]:
    size, rain = ["--events", "24", "--size", "32", "--frames", "21"], ["model.widths=[8,16]", "train.steps=10"]
    runs = [["train", "demo", f"arm={arm}", *SHORT, *rain, "--out", f"runs/{arm}"] for arm in ("radar", "dualpol")] + [
        ["train", "demo", *_NOWCAST, *SHORT, "--out", "runs/furenet"]
    ]
    return [
        ["data", "synth", "storms", "--preset", "tiny", "--seed", "2", "--workers", "1", *size],
        ["data", "shard", "storms", "shards", "--split", "0.4/0.2/0.4", "--workers", "1"],
        *runs,
        *(["evaluate", f"runs/{name}"] for name in ("radar", "dualpol", "furenet")),
        ["bench", _SHORT_SUITE, "--workers", "1", "--out", "runs/demo"],
    ]


def copied(prepared: Path, folder: Path) -> Sandbox:
    """Return a copy of a prepared folder; storms, which commands only replace, are shared by links.

    Shards are not: a link changes their inode, which a check in another sandbox takes for a change of the file.
    """
    for name in sorted(path.name for path in prepared.iterdir()):
        copy = os.link if name == "storms" else shutil.copy2
        shutil.copytree(prepared / name, folder / name, copy_function=copy)
    return Sandbox(folder)

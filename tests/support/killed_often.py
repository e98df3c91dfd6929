"""Kill a run repeatedly: `python killed_often.py SHARDS RUN KILLS SEED` prints the result as JSON.

Each attempt is a fork of this process, so that it starts without import time. Attempts are killed with SIGKILL.
"""

import json
import logging
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.checkpoint import newest
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.train import train

STEPS_PER_KILL = 6
SETTINGS = [
    "model.widths=[32,64,128]", "match_params=false", "train.global_batch=2", "train.learning_rate=1e-3",
    "train.validate_every=50", "train.checkpoint_every=1", "train.log_every=1", "train.threads=1",
    "train.average_decay=0.9",
]  # fmt: skip


def begin(shards: str, folder: Path, steps: int) -> int:
    """Start an attempt in a child process; return its PID."""
    if child := os.fork():
        return child
    try:
        logging.disable(logging.ERROR)
        config = load_config("demo", [f"data.shards={shards}", f"train.steps={steps}", *SETTINGS])
        train(config, RunFolder(folder), World())
    except BaseException:  # on any error, the child must not continue as the parent
        logging.disable(logging.NOTSET)
        logging.exception("an attempt failed")
        os._exit(1)
    os._exit(0)


def seconds_to_a_save(child: int, run: RunFolder) -> float:
    """Kill an attempt after its first save; return the time that took, which depends on the load of the machine."""
    started = time.time()
    while newest(run.checkpoints) is None:
        time.sleep(0.01)
    end(child)
    return time.time() - started


def kill_at_random(child: int, folder: Path, rng: random.Random, max_seconds: float) -> bool:
    """Kill an attempt at a random time, half of the time within a save; return whether it was within a save."""
    started = time.time()
    deadline = started + rng.uniform(0, max_seconds)
    within_save, pause = rng.random() < 0.5, rng.uniform(0, 0.03)
    while time.time() < deadline + max_seconds * within_save:
        if within_save and time.time() > deadline and is_saving(folder, started):
            time.sleep(pause)
            break
        time.sleep(0.001)
    end(child)
    return is_saving(folder, started)


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def is_saving(folder: Path, since: float) -> bool:
    """Return whether a save started after `since` and is incomplete."""
    for path in (folder / "checkpoints").glob(".partial_*"):
        with suppress(FileNotFoundError):  # it has just become complete
            if path.stat().st_ctime > since:
                return True
    return False


def reported(run: RunFolder) -> int:
    """Return the newest step with a logged checkpoint."""
    return max((r["step"] for r in run.records() if r["event"] == "checkpoint"), default=0)


def step_of(path: Path | None) -> int:
    return int(path.name.removeprefix("step-")) if path else 0


def main(shards: str, folder: Path, kills: int, seed: int) -> dict[str, object]:
    rng, run, steps = random.Random(seed), RunFolder(folder), STEPS_PER_KILL * kills
    result = {"kills": 0, "within_save": 0, "lost": 0, "backwards": 0, "failed": 0, "steps": steps}
    furthest = 0
    max_seconds = 2 * seconds_to_a_save(begin(shards, folder, steps), run)
    while result["kills"] < kills and not run.is_trained:
        child = begin(shards, folder, steps)
        result["within_save"] += kill_at_random(child, folder, rng, max_seconds)
        result["kills"] += 1
        saved = step_of(newest(run.checkpoints))
        result["lost"] += saved < reported(run)
        result["backwards"] += saved < furthest
        furthest = max(furthest, saved)
    _, status = os.waitpid(begin(shards, folder, steps), 0)
    result["failed"] = os.waitstatus_to_exitcode(status)
    uninterrupted = RunFolder(folder.with_name("uninterrupted"))
    os.waitpid(begin(shards, uninterrupted.path, steps), 0)
    losses = [{r["step"]: r["loss"] for r in one.records() if r["event"] == "step"} for one in (run, uninterrupted)]
    starts = [r["step"] for r in run.records() if r["event"] == "start"]
    equal = {"losses": losses[0] == losses[1] and len(losses[1]) == steps}
    equal["weights"] = run.weights_file.read_bytes() == uninterrupted.weights_file.read_bytes()
    return {**result, "lives": len(starts), "resumed": sum(s > 0 for s in starts), "equal": equal}


if __name__ == "__main__":
    torch.set_num_threads(1)
    import deepspeed  # noqa: F401
    import torch._dynamo  # imported by the first optimizer of a process

    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))

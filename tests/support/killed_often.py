"""A run that is killed over and over: `python killed_often.py SHARDS RUN KILLS SEED` prints what was seen as JSON.

Each life is a fork of this process, which has everything imported: a life lasts as long as training does, not as long
as Python takes to start. The kills are the kernel's own.
"""

import json
import logging
import os
import random
import signal
import sys
import time
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
    """A life; returns its process."""
    if child := os.fork():
        return child
    try:
        logging.disable(logging.ERROR)
        config = load_config("demo", [f"data.shards={shards}", f"train.steps={steps}", *SETTINGS])
        train(config, RunFolder(folder), World())
    except BaseException:  # whatever it is, this process must not go on as its parent
        logging.disable(logging.NOTSET)
        logging.exception("a life ended by itself")
        os._exit(1)
    os._exit(0)


def seconds_to_a_save(child: int, run: RunFolder) -> float:
    """Let a life save once, and kill it; returns how long that took, which a busy machine makes long."""
    born = time.time()
    while newest(run.checkpoints) is None:
        time.sleep(0.01)
    end(child)
    return time.time() - born


def kill_at_random(child: int, folder: Path, rng: random.Random, longest_life: float) -> bool:
    """Kill a life at any instant, or (half of the time) within a save; returns whether it was within one."""
    born = time.time()
    deadline = born + rng.uniform(0, longest_life)
    within_save, pause = rng.random() < 0.5, rng.uniform(0, 0.03)
    while time.time() < deadline + longest_life * within_save:
        if within_save and time.time() > deadline and is_saving(folder, born):
            time.sleep(pause)
            break
        time.sleep(0.001)
    end(child)
    return is_saving(folder, born)


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def is_saving(folder: Path, since: float) -> bool:
    """Whether a save was begun since, and has not come to its end."""
    return any(p.stat().st_ctime > since for p in (folder / "checkpoints").glob(".partial_*"))


def reported(run: RunFolder) -> int:
    """The newest step of which the run's log says that it is saved."""
    return max((r["step"] for r in run.records() if r["event"] == "checkpoint"), default=0)


def step_of(path: Path | None) -> int:
    return int(path.name.removeprefix("step-")) if path else 0


def main(shards: str, folder: Path, kills: int, seed: int) -> dict[str, object]:
    rng, run, steps = random.Random(seed), RunFolder(folder), STEPS_PER_KILL * kills
    told = {"kills": 0, "within_save": 0, "lost": 0, "backwards": 0, "failed": 0, "steps": steps}
    furthest = 0
    longest_life = 2 * seconds_to_a_save(begin(shards, folder, steps), run)
    while told["kills"] < kills and not run.is_trained:
        child = begin(shards, folder, steps)
        told["within_save"] += kill_at_random(child, folder, rng, longest_life)
        told["kills"] += 1
        saved = step_of(newest(run.checkpoints))
        told["lost"] += saved < reported(run)
        told["backwards"] += saved < furthest
        furthest = max(furthest, saved)
    _, status = os.waitpid(begin(shards, folder, steps), 0)
    told["failed"] = os.waitstatus_to_exitcode(status)
    undisturbed = RunFolder(folder.with_name("undisturbed"))
    os.waitpid(begin(shards, undisturbed.path, steps), 0)
    losses = [{r["step"]: r["loss"] for r in one.records() if r["event"] == "step"} for one in (run, undisturbed)]
    starts = [r["step"] for r in run.records() if r["event"] == "start"]
    equal = {"losses": losses[0] == losses[1] and len(losses[1]) == steps}
    equal["weights"] = run.weights_file.read_bytes() == undisturbed.weights_file.read_bytes()
    return {**told, "lives": len(starts), "resumed": sum(s > 0 for s in starts), "equal": equal}


if __name__ == "__main__":
    torch.set_num_threads(1)
    import deepspeed  # noqa: F401
    import torch._dynamo  # what the first optimizer of a process would import

    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))

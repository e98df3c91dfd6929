"""Train and evaluate one cell in its own process: `python -m polarcast.hpc.bench.worker RUN`."""

import json
import sys
import time
from pathlib import Path

from polarcast.data.errors import BadInput, Stopped
from polarcast.data.files import read_limited, sole_writer, write_text
from polarcast.hpc.utils.console import exit_process
from polarcast.hpc.utils.exit_codes import BAD_INPUT, ENDED_EARLY, OK

PROGRESS = "progress.json"
ERROR = "error.txt"
_SECONDS_BETWEEN_REPORTS = 0.25


class Reporter:
    """Write `progress.json` at most a few times a second, for the parent process."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / PROGRESS
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Record that `done` of `total` steps of a stage are done."""
        now = time.monotonic()
        if now >= self._next or done == total:
            self._next = now + _SECONDS_BETWEEN_REPORTS
            self._file.write_text(json.dumps({"stage": stage, "done": done, "total": total}), encoding="utf-8")


def run_cell(folder: Path) -> None:
    """Train and evaluate the run configured in `folder`; complete parts are not repeated."""
    from polarcast.hpc.distributed.world import detect
    from polarcast.hpc.evaluation.evaluate import evaluate
    from polarcast.hpc.runs.build import open_shards
    from polarcast.hpc.runs.folder import RunFolder
    from polarcast.hpc.training.train import train

    run, report = RunFolder(folder, trust=True), Reporter(folder)  # configured by the suite of this user
    config = run.config()
    train(config, run, detect(), lambda done, total, loss: report("train", done, total))
    evaluate(run, open_shards(config), run.output, on_frames=lambda d, t: report("evaluate", d, t))


def read_progress(folder: Path) -> tuple[str, int, int]:
    """Return the stage, steps done and total steps of a cell; ("", 0, 1) before its first report."""
    try:
        report = json.loads(read_limited(folder / PROGRESS).decode())
        return report["stage"], report["done"], report["total"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "", 0, 1


def main() -> int:
    """Run the process; invalid input ends it with one line and exit code 2."""
    try:
        with sole_writer(Path(sys.argv[1])):
            run_cell(Path(sys.argv[1]))
    except BadInput as error:
        write_text(Path(sys.argv[1]) / ERROR, f"{error}\n")
        print(error, file=sys.stderr)
        return BAD_INPUT
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return ENDED_EARLY
    return OK


if __name__ == "__main__":
    exit_process(main())

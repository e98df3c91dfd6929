"""Run a test function on several processes."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from polarcast.hpc.distributed.world import FOLDER
from tests.support import warm

PROJECT = Path(__file__).resolve().parents[2]
_SECONDS = 500


def on_ranks(ranks: int, module: str, *arguments: object, out: Path, by_torchrun: bool = False) -> list[Any]:
    """Call `main(*arguments)` of a module of this folder on `ranks` processes; return the results by rank."""
    program = ["-m", "tests.support.on_ranks", module, str(out), *map(str, arguments)]
    (_by_torchrun if by_torchrun else _by_forks)(ranks, program)
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(ranks)]


def _by_torchrun(ranks: int, program: list[str]) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([*launcher, *program], capture_output=True, text=True, timeout=_SECONDS, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]


def _by_forks(ranks: int, program: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        world = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), FOLDER: folder, "OMP_NUM_THREADS": "1"}
        processes = []
        for rank in map(str, range(ranks)):
            environment = {**os.environ, **world, "RANK": rank, "LOCAL_RANK": rank}
            processes.append(
                warm.Popen([sys.executable, *program], cwd=PROJECT, env=environment, stdout=errors, stderr=errors)
            )
        try:
            codes = [process.wait(_SECONDS) for process in processes]
        finally:
            for process in processes:
                process.kill()
        errors.seek(0)
        assert codes == [0] * ranks, errors.read()[-4000:]


if __name__ == "__main__":
    import importlib

    result = importlib.import_module(f"tests.support.{sys.argv[1]}").main(*sys.argv[3:])
    (Path(sys.argv[2]) / f"{os.environ['RANK']}.json").write_text(json.dumps(result))
    # DeepSpeed's teardown may wait for ranks that have exited.
    sys.stdout.flush()
    os._exit(0)

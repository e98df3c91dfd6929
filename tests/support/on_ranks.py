"""Run a test function on several processes with torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]


def on_ranks(ranks: int, module: str, *arguments: object, out: Path) -> list[Any]:
    """Call `main(*arguments)` of a module of this folder on `ranks` processes; return the results by rank."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}",
        "-m", "tests.support.on_ranks", module, str(out), *map(str, arguments),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(ranks)]


if __name__ == "__main__":
    import importlib

    result = importlib.import_module(f"tests.support.{sys.argv[1]}").main(*sys.argv[3:])
    (Path(sys.argv[2]) / f"{os.environ['RANK']}.json").write_text(json.dumps(result))
    # DeepSpeed's teardown may wait for ranks that have exited.
    sys.stdout.flush()
    os._exit(0)

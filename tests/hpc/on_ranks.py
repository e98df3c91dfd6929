"""Runs a function of the tests on several real processes: `python -m on_ranks`-style, through torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def on_ranks(ranks: int, module: str, *arguments: object, out: Path) -> list[Any]:
    """Call `main(*arguments)` of a module of this folder on so many ranks; returns what each of them returned."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}",
        str(HERE / "on_ranks.py"), module, str(out), *map(str, arguments),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(ranks)]


if __name__ == "__main__":
    import importlib

    sys.path.insert(0, str(HERE))
    told = importlib.import_module(sys.argv[1]).main(*sys.argv[3:])
    (Path(sys.argv[2]) / f"{os.environ['RANK']}.json").write_text(json.dumps(told))
    # DeepSpeed's teardown may wait for ranks that are gone.
    sys.stdout.flush()
    os._exit(0)

"""Kill a run at random times, often within a save: no logged checkpoint is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest
from tests.support import killed_often

KILLS = int(os.environ.get("POLARCAST_KILLS", "12"))
"""Number of kills; 100 take minutes."""


@pytest.mark.multiprocess
def test_run_killed_at_random_times_loses_no_logged_checkpoint(shards: Manifest, tmp_path: Path) -> None:
    command = [sys.executable, killed_often.__file__, str(shards.folder), str(tmp_path / "run"), str(KILLS), "1"]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 10 * KILLS, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    print(f"\n{result}")
    assert (result["lost"], result["backwards"], result["failed"]) == (0, 0, 0)
    assert result["kills"] >= KILLS // 2
    assert result["within_save"] >= KILLS // 5
    assert result["resumed"] >= KILLS // 3
    assert result["equal"] == {"losses": True, "weights": True}

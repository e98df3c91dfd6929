"""Killed at random instants, many of them within a save: nothing that was reported as saved is ever lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest
from tests.support import killed_often

KILLS = int(os.environ.get("POLARCAST_KILLS", "12"))
"""POLARCAST_KILLS=100 is a matter of minutes."""


@pytest.mark.multiprocess
def test_a_run_killed_at_random_instants_loses_nothing_that_was_reported_as_saved(
    shards: Manifest, tmp_path: Path
) -> None:
    command = [sys.executable, killed_often.__file__, str(shards.folder), str(tmp_path / "run"), str(KILLS), "1"]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 10 * KILLS, env=environment)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    print(f"\n{seen}")
    assert (seen["lost"], seen["backwards"], seen["failed"]) == (0, 0, 0)
    assert seen["kills"] >= KILLS // 2
    assert seen["within_save"] >= KILLS // 5
    assert seen["resumed"] >= KILLS // 3
    assert seen["equal"] == {"losses": True, "weights": True}

"""Shards and runs of an earlier version, in `older_runs.tar.xz`.

Written by commit 28a57e0, the last one before `hpc/` was divided into folders:

- shards/: six synthetic events of 32 × 32 pixels
- qpe/: a U-Net, trained and scored, with `data.turn` and `data.thicken_db` in its configuration
- residual/: a residual diffusion on top of it
- nowcast/: a killed run of FURENet, with a checkpoint at step 4 of 8; nowcast-final.safetensors has the final weights
- digests.json: digests of presets, and of one configuration of each model
"""

import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).with_name("older_runs.tar.xz")


def unpack(folder: Path) -> Path:
    """Unpack all files into a folder; return the folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder

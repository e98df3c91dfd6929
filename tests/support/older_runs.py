"""Shards and runs that an earlier version wrote, in `older_runs.tar.xz`.

They were written by commit 28a57e0, the last before `hpc/` was divided into folders:

- shards/: six synthetic events of 32 × 32 pixels
- qpe/: a U-Net, trained and scored, with `data.turn` and `data.thicken_db` in its configuration
- residual/: a residual diffusion on top of it
- nowcast/: a FURENet as a kill left it, with a checkpoint of step 4 of 8; nowcast-final.safetensors is how it ended
- digests.json: digests of presets, and of one configuration of each model
"""

import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).with_name("older_runs.tar.xz")


def unpack(folder: Path) -> Path:
    """Unpack everything into a folder, and return it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder

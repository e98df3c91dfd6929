"""Provenance of a result: code, data, packages and machine.

Environment variables are never recorded, because they may contain secrets; secrets in texts are replaced by digests.
"""

import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json, write_json
from polarcast.data.secrets import redacted_tree
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs.revision import revision
from polarcast.hpc.runs.start import started_from
from polarcast.hpc.utils.versions import package_versions

_SECTIONS = ("code", "data", "packages")
_PACKAGES = ("polarcast", "torch", "deepspeed", "webdataset", "numpy")


def write_provenance(path: Path, provenance: Mapping[str, Any]) -> None:
    """Write provenance.json, unless it exists: a resumed run keeps the original."""
    if not path.exists():
        write_json(path, provenance)


def check_data(path: Path, manifest: Manifest) -> None:
    """Check that a run goes on with the shards that it began with, wherever they are now.

    Raises:
        BadInput: the digest of the manifest is not that of provenance.json.
    """
    known = read_provenance(path).get("data", {}).get("digest")
    if known and known != manifest.digest():
        what = f"contains a run on other data: its manifest has digest {str(known)[:8]}, got {manifest.digest()[:8]}"
        raise BadInput(what, path.parent, "give the shards that it began with, or choose another folder")


def read_provenance(path: Path) -> dict[str, Any]:
    """Read provenance.json, without secrets; empty if it is missing or damaged, because it is informative only."""
    content = dict(redacted_tree(read_json(path)))
    return {key: value for key, value in content.items() if isinstance(value, dict) or key not in _SECTIONS}


def describe(manifest: Manifest, config: RunConfig | None = None) -> dict[str, Any]:
    """Collect the code version with a hash of uncommitted changes, data digest, packages, host, GPU and command.

    Args:
        manifest: Manifest of the data.
        config: Configuration of the run; it tells which weights training started from.
    """
    content = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": revision(),
        "data": {"folder": manifest.source.location, "digest": manifest.digest(), "archive": manifest.provenance},
        "packages": package_versions(_PACKAGES),
        "python": platform.python_version(),
        "host": platform.node(),
        "machine": platform.machine(),
        "gpu": _gpu(),
        "command": sys.argv[1:],
    }
    if config and (start := started_from(config)):
        content["started_from"] = start
    return dict(redacted_tree(content))


def _gpu() -> str | None:
    """Return the model name of the GPU; None without one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None

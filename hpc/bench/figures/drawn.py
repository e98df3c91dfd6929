"""Record of what figures were drawn from, so that a suite that is run again does not draw equal figures."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from omegaconf import OmegaConf

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json, write_json
from polarcast.data.shards.health import file_sha256
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.utils.versions import package_versions

RECORD = "drawn.json"
_CODE = (Path(__file__).parents[1], Path(__file__).parents[2] / "scores", Path(__file__).parents[2] / "utils")


def fingerprint(suite: Suite, inputs: Iterable[Path]) -> str:
    """Hash all that figures depend on: suite, records and cases, the code that draws, and its libraries.

    Args:
        suite: Suite that defines models and tables.
        inputs: Files that the figures show; missing ones count as such.
    """
    code = sorted(file for folder in _CODE for file in folder.rglob("*.py"))
    texts = [OmegaConf.to_yaml(OmegaConf.structured(suite)), str(package_versions(("matplotlib", "numpy")))]
    parts = [*texts, *(_digest(file) for file in [*code, *inputs])]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def drawn_or_draw(folder: Path, key: str, draw: Callable[[], list[Path]]) -> list[Path]:
    """Return the figures of a folder if they were drawn from the same inputs and are unchanged; otherwise draw them.

    Args:
        folder: Folder of the figures.
        key: Fingerprint of the inputs.
        draw: Function that draws the figures and returns their files.
    """
    if kept := _unchanged(folder, key):
        return kept
    files = draw()
    write_json(folder / RECORD, {"from": key, "figures": {file.name: _digest(file) for file in files}})
    return files


def _unchanged(folder: Path, key: str) -> list[Path]:
    try:
        record = read_json(folder / RECORD)
        digests = {folder / Path(name).name: digest for name, digest in record["figures"].items()}
        is_same = record["from"] == key and all(digest == _digest(file) for file, digest in digests.items())
    except (OSError, BadInput, LookupError, TypeError, AttributeError, ValueError):
        return []
    return list(digests) if is_same else []


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file, or `missing`."""
    try:
        return file_sha256(file)
    except OSError:
        return "missing"

"""Source revision of this code: the commit of its checkout, or what was recorded when its wheel was built.

`setup.py` runs this file by path, so it imports the standard library only.
"""

import hashlib
import json
import subprocess
from functools import cache
from pathlib import Path

FILE = "revision.json"
"""File beside this module, in wheels and sdists only."""


def revision() -> dict[str, str]:
    """Return the commit and a hash of uncommitted changes; empty strings if they are unknown.

    Git is asked once in a process: later changes of the checkout are not what it runs.
    """
    return dict(_revision())


@cache
def _revision() -> dict[str, str]:
    here = Path(__file__).resolve()
    recorded = here.with_name(FILE)
    if recorded.is_file():
        known = json.loads(recorded.read_text(encoding="utf-8"))
        return {"commit": str(known["commit"]), "diff_sha256": str(known["diff_sha256"])}
    return revision_of_checkout(here.parent)


def revision_of_checkout(folder: Path) -> dict[str, str]:
    """Return the revision of the git checkout that tracks files of a folder.

    An environment inside the checkout of another project is not tracked by it, and has no revision.
    """
    if not _git(folder, "ls-files", "."):
        return {"commit": "", "diff_sha256": ""}
    diff = _git(folder, "diff", "HEAD")
    return {
        "commit": _git(folder, "rev-parse", "HEAD"),
        "diff_sha256": hashlib.sha256(diff.encode()).hexdigest() if diff else "",
    }


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, encoding="utf-8", errors="replace", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

"""Record the source revision in wheels and sdists: runs made with them name it, as those of a checkout do."""

import json
import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

_RUNS = Path("hpc/runs")
_REVISION = runpy.run_path(str(_RUNS / "revision.py"))


def _record(folder: Path) -> None:
    """Write the revision of this checkout or sdist into a folder, if it is known."""
    revision = _REVISION["revision"]()
    if revision["commit"]:
        path = folder / _REVISION["FILE"]
        path.unlink(missing_ok=True)
        path.write_text(json.dumps(revision) + "\n", encoding="utf-8")


class _BuildPy(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            _record(Path(self.build_lib) / "polarcast" / _RUNS)


class _Sdist(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        _record(Path(base_dir) / _RUNS)


setup(cmdclass={"build_py": _BuildPy, "sdist": _Sdist})

"""What describes the package to others agrees with it: citation, CI, hooks and container recipes."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from polarcast.slurm.profile import CONTAINERS

PROJECT = Path(__file__).resolve().parents[2]
METADATA: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTAINER = PROJECT / "slurm" / "container"
DOCKERFILE = (CONTAINER / "Dockerfile").read_text(encoding="utf-8")
DEFINITION = (CONTAINER / "polarcast.def").read_text(encoding="utf-8")
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (PROJECT / "constraints.txt").read_text(encoding="utf-8"), flags=re.M))


def test_citation_is_complete_and_of_this_version() -> None:
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation.keys() >= {"cff-version", "message", "title", "authors", "abstract"}
    assert citation["cff-version"] == "1.2.0"
    assert (str(citation["version"]), citation["license"]) == (METADATA["version"], METADATA["license"])
    for work in (citation, *citation["references"]):
        assert all(author.keys() == {"name"} for author in work["authors"])
    assert all(work.keys() >= {"type", "title", "authors"} for work in citation["references"])


def test_ci_runs_the_script_of_the_repository() -> None:
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["ci"]["steps"]
    assert [step["run"] for step in steps if ".ci/run" in step.get("run", "")] == [".ci/run"]
    script = PROJECT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)
    markers = {text.partition(":")[0] for text in pytest_options()["markers"]}
    [required] = re.findall(r"REQUIRE=(\S+)", script.read_text(encoding="utf-8"))
    assert set(required.split(",")) == markers - {"gpu", "real_data", "docs", "package"}
    # The documentation and the wheel are tested in a run of their own.
    assert re.search(r"^POLARCAST_SITE=\S+ make test-docs$", script.read_text(encoding="utf-8"), re.M)
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    assert re.search(r"^test-docs:.*\n\t.*--require docs,package$", makefile, re.M)


def pytest_options() -> dict[str, Any]:
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    options: dict[str, Any] = tomllib.loads(text)["tool"]["pytest"]["ini_options"]
    return options


def test_hooks_are_valid_and_of_the_pinned_ruff() -> None:
    config = PROJECT / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", config], check=True)
    hooks = [hook for repo in yaml.safe_load(config.read_text(encoding="utf-8"))["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].split()[0] for hook in hooks} == {".venv/bin/ruff"}
    assert "ruff" in PINS


def copied(recipe: str) -> list[str]:
    """Return the paths that a recipe copies into the image."""
    if recipe == DOCKERFILE:
        return [path for line in re.findall(r"^COPY (.+)", recipe, flags=re.M) for path in line.split()[:-1]]
    files = re.search(r"^%files\n((?: .*\n)+)", recipe, flags=re.M)
    assert files
    return [line.split()[0] for line in files[1].splitlines()]


@pytest.mark.parametrize("recipe", [DOCKERFILE, DEFINITION])
def test_recipes_copy_what_is_there(recipe: str) -> None:
    paths = copied(recipe)
    assert {"constraints.txt", "slurm/container/install.sh", "dist/polarcast-*.whl"} == set(paths)
    assert all((PROJECT / path).is_file() for path in paths if not path.startswith("dist/"))
    assert fnmatch.fnmatch(f"dist/polarcast-{METADATA['version']}-py3-none-any.whl", "dist/polarcast-*.whl")
    assert "/opt/polarcast/install.sh" in recipe


def test_docker_sees_what_it_copies() -> None:
    ignored = (CONTAINER / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    assert {path.removeprefix("!") for path in ignored[1:]} == set(copied(DOCKERFILE))


def test_recipes_start_from_one_image_of_a_supported_python() -> None:
    images = set(re.findall(r"^(?:FROM|From:) (\S+)", f"{DOCKERFILE}\n{DEFINITION}", flags=re.M))
    [image] = images
    version = re.match(r"python:(\d+)\.(\d+)-slim", image)
    assert version
    assert METADATA["requires-python"] == ">=3.11"
    assert tuple(map(int, version.groups())) >= (3, 11)


def test_containers_of_a_profile_are_described() -> None:
    readme = (CONTAINER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"kind: (\w+)", readme)) == set(CONTAINERS)


PIP = """#!/bin/sh
echo "$@" >>calls
"""


@pytest.mark.parametrize("index", ["", "https://download.pytorch.org/whl/cpu"])
def test_the_images_install_one_wheel_with_the_pinned_versions(tmp_path: Path, index: str) -> None:
    shutil.copy(CONTAINER / "install.sh", tmp_path)
    shutil.copy(PROJECT / "constraints.txt", tmp_path)
    for name in ("pip", "polarcast"):
        (tmp_path / name).write_text(PIP, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "polarcast-1-py3-none-any.whl").touch()
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TORCH_INDEX": index}
    subprocess.run([tmp_path / "install.sh"], env=env, check=True)
    torch = [f"install --no-deps --index-url {index} torch=={PINS['torch']}"] if index else []
    wheel = "install -c constraints.txt ./polarcast-1-py3-none-any.whl[ingest,nowcast]"
    assert (tmp_path / "calls").read_text(encoding="utf-8").splitlines() == [*torch, wheel, "--version"]
    (tmp_path / "polarcast-2-py3-none-any.whl").touch()
    done = subprocess.run([tmp_path / "install.sh"], env=env, capture_output=True, text=True)
    assert (done.returncode, "one wheel" in done.stderr) == (2, True)

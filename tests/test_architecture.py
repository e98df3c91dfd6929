"""The structure: rooms on floors, imports that run one way, no circle, everything installed."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
FLOORS = [
    {"hpc.api", "hpc.cli", "sweeps"},
    {"hpc.bench", "hpc.leaderboard", "hpc.perf"},
    {"hpc.training"},
    {"hpc.tracking"},
    {"hpc.evaluation", "hpc.inference", "hpc.zoo"},
    {"hpc.runs"},
    {"hpc.config"},
    {"hpc.distributed", "hpc.scores"},
    {"hpc.utils"},
    {"models"},
    {"data"},
    {"slurm"},
]
"""Top floor first. A room imports from floors below it, never from its own floor or from above."""
STANDALONE = {"slurm"}
"""Imports nothing of the others; only the top floor imports it."""
MODELS_MAY_USE = {f"polarcast.data.{name}" for name in ("batch", "errors", "scaling", "synth.attainable")}
"""Models see batches and scalings, one of them the physics of synthetic storms; never archives, shards or readers."""
TOP = ("data", "models", "hpc", "sweeps", "slurm")


def room_of(module: str) -> str:
    """`polarcast.hpc.runs.folder` → `hpc.runs`, `polarcast.data.batch` → `data`; `polarcast` itself is `hpc.api`."""
    parts = module.split(".")[1:]
    if not parts or parts[0] not in TOP:
        return "hpc.api"
    return ".".join(parts[:2]) if parts[0] == "hpc" else parts[0]


def name_of(path: Path) -> str:
    """The module a file is; `hpc/api` is the package `polarcast` itself."""
    parts = list(path.relative_to(PROJECT).with_suffix("").parts)
    parts = parts[2:] if parts[:2] == ["hpc", "api"] else parts
    return ".".join(["polarcast", *(parts[:-1] if parts[-1:] == ["__init__"] else parts)])


@cache
def modules() -> dict[str, Path]:
    return {name_of(path): path for folder in TOP for path in sorted((PROJECT / folder).rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Modules of polarcast that a file imports, wherever in it, for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "polarcast":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules() else str(node.module)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "polarcast")


@cache
def arrows() -> dict[str, set[str]]:
    return {name: set(imported(path)) - {name} for name, path in modules().items()}


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_imports_are_absolute() -> None:
    """Relative imports would escape the other tests."""
    for name, path in modules().items():
        nodes = ast.walk(ast.parse(path.read_text()))
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), name


def test_hpc_holds_rooms_only() -> None:
    files = {path.name for path in (PROJECT / "hpc").iterdir() if path.is_file()}
    rooms = {f"hpc.{path.name}" for path in (PROJECT / "hpc").iterdir() if any(path.glob("*.py"))}
    assert files == {"__init__.py"}
    assert rooms == {room for rooms in FLOORS for room in rooms if room.startswith("hpc.")}
    assert len(rooms) <= 15
    assert sum(any(room.startswith("hpc.") for room in floor) for floor in FLOORS) <= 9


def test_no_import_runs_upward() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, targets in arrows().items()
        for target in targets
        if room_of(target) != room_of(name) and floor_of(room_of(target)) <= floor_of(room_of(name))
    ]
    assert not wrong, "\n".join(wrong)


def test_slurm_stands_alone() -> None:
    for name, targets in arrows().items():
        rooms = {room_of(target) for target in targets}
        if room_of(name) in STANDALONE:
            assert rooms <= STANDALONE, f"{name} imports {rooms - STANDALONE}"
        elif room_of(name) not in FLOORS[0]:
            assert not rooms & STANDALONE, f"{name} imports {rooms & STANDALONE}"


def test_no_circles() -> None:
    circles = [" → ".join(circle) for circle in circles_in(arrows())]
    assert not circles, "\n".join(circles)


def circles_in(graph: dict[str, set[str]]) -> list[list[str]]:
    """One circle through each group of nodes that reach each other; empty for a graph without any."""
    done: set[str] = set()
    found: list[list[str]] = []

    def visit(node: str, path: list[str]) -> None:
        if node in path:
            found.append([*path[path.index(node) :], node])
        elif node not in done:
            for target in sorted(graph.get(node, ())):
                visit(target, [*path, node])
            done.add(node)

    for node in sorted(graph):
        visit(node, [])
    return found


def test_a_circle_is_found() -> None:
    assert circles_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles_in({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]
    assert circles_in({"a": {"b"}, "b": {"a"}}) == [["a", "b", "a"]]


def test_a_class_name_is_one_class() -> None:
    homes: dict[str, list[str]] = {}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(name)
    assert not {name: places for name, places in homes.items() if len(places) > 1}


def test_models_know_tensors_only() -> None:
    for name, targets in arrows().items():
        if room_of(name) == "models":
            used = {target for target in targets if room_of(target) == "data"}
            assert used <= MODELS_MAY_USE, f"{name} imports {used - MODELS_MAY_USE}"


def test_every_import_is_of_something_that_exists() -> None:
    for name, targets in arrows().items():
        assert targets <= modules().keys(), f"{name} imports {targets - modules().keys()}"


def test_every_package_is_installed() -> None:
    setup = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert {name_of(path) for path in modules().values() if path.name == "__init__.py"} == set(setup["packages"])


def test_tests_mirror_the_folders() -> None:
    for folder in TOP:
        for path in (PROJECT / "tests" / folder).rglob("test_*.py"):
            mirrored = PROJECT / path.relative_to(PROJECT / "tests").parent
            assert mirrored.is_dir(), f"{path} mirrors no folder"


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "deepspeed", "ray", "wandb", "pyarrow", "matplotlib", "scipy", "omegaconf")
    probe = (
        "import sys\nfrom polarcast.hpc.cli.app import app\nfrom typer.testing import CliRunner\n"
        "assert 'Example' in CliRunner().invoke(app, ['train', '--help']).output\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_training_imports_only_what_it_uses() -> None:
    """Every rank pays for the imports of `train`, and every process that reads a configuration for the models."""
    others = (
        "torch._dynamo", "sympy", "scipy", "deepspeed", "ray", "wandb", "tensorboardX", "matplotlib", "pyarrow",
        "optuna", "lightgbm", "diffusers", "webdataset", "pandas", "rich",
    )  # fmt: skip
    probe = f"import sys, polarcast.hpc.training.train\nprint([m for m in {others} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

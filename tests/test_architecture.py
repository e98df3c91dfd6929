"""The arrows of the house: imports run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "data": {"data"},
    "models": {"data", "models"},
    "hpc": {"data", "models", "hpc"},
    "sweeps": {"data", "models", "hpc", "sweeps"},
    "slurm": {"slurm"},
}
# A model is given batches and scalings, and one of them the physics behind synthetic storms; none knows archives,
# shards or readers.
MODELS_MAY_USE = {f"polarcast.data.{name}" for name in ("batch", "errors", "scaling", "synth.attainable")}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def modules(folder: str) -> list[Path]:
    return sorted((PROJECT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", [f for f in MAY_IMPORT if (PROJECT / f).is_dir()])
def test_imports_run_one_way(folder: str) -> None:
    assert any((PROJECT / folder).iterdir())
    for path in modules(folder):
        used = {name.split(".")[1] for name in imported(path) if name.startswith("polarcast.")}
        if path.parent != PROJECT / "hpc" or not path.name.startswith("cli"):
            assert used <= MAY_IMPORT[folder], f"{path} imports {used - MAY_IMPORT[folder]}"


def test_models_know_tensors_only() -> None:
    for path in modules("models"):
        used = {name for name in imported(path) if name.startswith("polarcast.data")}
        assert used <= MODELS_MAY_USE, f"{path} imports {used - MODELS_MAY_USE}"


def test_every_package_is_installed() -> None:
    import tomllib

    setup = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {p.parent for f in MAY_IMPORT for p in modules(f)}
    assert {"polarcast." + ".".join(f.relative_to(PROJECT).parts) for f in folders} == set(setup["packages"])


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "deepspeed", "ray", "wandb", "pyarrow", "matplotlib", "scipy", "omegaconf")
    probe = (
        "import sys\nfrom polarcast.hpc.cli import app\nfrom typer.testing import CliRunner\n"
        "assert 'Example' in CliRunner().invoke(app, ['train', '--help']).output\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

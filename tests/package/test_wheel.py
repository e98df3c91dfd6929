"""The wheel works away from the checkout, with exactly the distributions that it declares."""

import csv
import json
import os
import shutil
import subprocess
import sys
import venv
from collections import defaultdict
from importlib.metadata import Distribution, PathDistribution, distribution, distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import polarcast
from docs.tools.blocks import blocks
from polarcast.data.synth.scattering import DROP_TABLE
from polarcast.hpc.utils.sources import PRESETS, SPACES, SUITES
from polarcast.hpc.zoo.note import NETS
from polarcast.slurm.profile import PROFILES

pytestmark = pytest.mark.package

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = ("data", "models", "hpc", "slurm", "sweeps")
FILES = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "constraints.txt",
)
AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@localhost")
NETWORK = "{widths: [4, 8], heavy_power: 0.5, first_guess: power_law}"
TRAINING = "{steps: 2, validate_every: 2, global_batch: 2, micro_batch: 2, threads: 1}"
SUITE = f"""
name: away
data: {{synth: {{events: 24, frames: 1, size: 32, preset: tiny, seed: 5}}, split: 0.4/0.2/0.4}}
models:
  fitted: {{label: fitted, set: {{model: {{name: power_law, coefficients: fitted}}}}}}
  unet: {{label: U-Net, arms: [dualpol], set: {{model: {NETWORK}, train: {TRAINING}}}}}
tables:
  main: {{title: Main, metrics: [rmse]}}
"""
KEYS = ("steps", "validate_every", "global_batch", "micro_batch")
SHORT = ("model.widths=[8,16]", *(f"train.{key}=2" for key in KEYS))
SHORTENED = f"""
import polarcast as pc

load = pc.load_config
pc.load_config = lambda source, overrides: load(source, [*overrides, *{SHORT!r}])
"""
"""Shortens the trainings of the README's example, which follows it."""
MODULES = """
import importlib, json, pkgutil
import polarcast

missing = {}
for module in pkgutil.walk_packages(polarcast.__path__, "polarcast."):
    try:
        importlib.import_module(module.name) if not module.name.endswith("__main__") else None
    except ModuleNotFoundError as error:
        missing[module.name] = error.name
print(json.dumps([polarcast.__file__, missing]))
"""
OF_EXTRAS = ("cv2", "h5netcdf", "h5py", "netCDF4", "pyart", "pysteps", "rustmatrix", "xarray", "xradar", "zarr")


def closure_of(wheel: Distribution) -> dict[str, Distribution]:
    """Return the installed distributions that a wheel needs without extras, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(wheel, "")]
    while waiting:
        one, extra = waiting.pop()
        for need in map(Requirement, one.requires or ()):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                name = canonicalize_name(need.name)
                found[name] = distribution(name)
                pairs = {(name, also) for also in ("", *need.extras)} - seen
                seen |= pairs
                waiting += [(found[name], also) for _, also in pairs]
    return found


def link(wanted: dict[str, Distribution], site: Path) -> None:
    """Link distributions into a folder of packages: whole folders, or single files where others share the folder."""
    files = {canonicalize_name(dist.name): (dist, files_of(dist)) for dist in distributions()}
    owners: dict[str, set[str]] = defaultdict(set)
    for name, (_, paths) in files.items():
        for path in paths:
            owners[path.parts[0]].add(name)
    for name in wanted:
        dist, paths = files[name]
        own = {Path(path.parts[0]) if owners[path.parts[0]] <= wanted.keys() else path for path in paths}
        for path in own - {Path(".."), Path("__pycache__")}:
            if not (site / path).exists():
                (site / path).parent.mkdir(parents=True, exist_ok=True)
                (site / path).symlink_to(Path(str(dist.locate_file(path))).resolve())


def files_of(dist: Distribution) -> list[Path]:
    """Return the files of an installed distribution, relative to its folder of packages."""
    return [Path(row[0]) for row in csv.reader((dist.read_text("RECORD") or "").splitlines())]


def run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel that is built from an sdist of a copy of the checkout, without network."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for folder in SOURCES:
        shutil.copytree(PROJECT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(PROJECT / file, copy)
    for command in (("init", "--quiet"), ("add", "."), (*AUTHOR, "commit", "--quiet", "--message", "A copy")):
        run("git", *command, cwd=copy)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=out)
    assert len(list(out.glob("*.tar.gz"))) == 1
    [path] = out.glob("*.whl")
    return path


class Away:
    """Folder with an environment that holds the wheel and what it declares."""

    def __init__(self, root: Path, wheel: Path) -> None:
        self.root, self.bin = root, root / "venv" / "bin"
        (root / "home").mkdir()
        venv.create(root / "venv", symlinks=True)
        [self.site] = (root / "venv" / "lib").glob("python*/site-packages")
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.bin / "python")
        run(*pip, "install", "--quiet", "--no-compile", "--no-deps", "--no-index", wheel, cwd=root)
        [info] = self.site.glob("polarcast-*.dist-info")
        self.declared = PathDistribution(info)
        link(closure_of(self.declared), self.site)
        self._keep_machine_code()

    def _keep_machine_code(self) -> None:
        """Copy compiled kernels of the checkout, if there are any; numba uses them if name, time and size agree."""
        kernels, copies = PROJECT / "hpc" / "scores", self.site / "polarcast" / "hpc" / "scores"
        (copies / "__pycache__").mkdir()
        for source in kernels.glob("*.py"):
            shutil.copystat(source, copies / source.name)
        for code in kernels.glob("__pycache__/*.nb?"):
            shutil.copy2(code, copies / "__pycache__")

    def run(self, program: str, *arguments: object) -> str:
        env = {"HOME": str(self.root / "home"), "PATH": f"{self.bin}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
        return run(self.bin / program, *arguments, cwd=self.root, env=env | {"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def away(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Away:
    return Away(tmp_path_factory.mktemp("away"), wheel)


@pytest.fixture(scope="module")
def suite(away: Away) -> Path:
    """Folder of a tiny suite that the wheel has run."""
    (away.root / "away.yaml").write_text(SUITE, encoding="utf-8")
    tables = json.loads(away.run("polarcast", "bench", "away.yaml", "--workers", "1", "--json"))["tables"]
    cells = {(row["model"], row["arm"]) for row in tables["main"]["records"] if row["arm"] != "difference"}
    assert cells == {("fitted", "radar"), ("fitted", "dualpol"), ("unet", "dualpol")}
    return away.root / "runs" / "away"


@pytest.fixture(scope="module")
def printed(away: Away, suite: Path) -> list[str]:
    """Lines that the README's example prints, and a last one of what is imported and missing: one Python runs both."""
    [example] = [block.text for block in blocks(PROJECT / "README.md") if block.is_run and block.language == "python"]
    [data] = suite.glob("data-*")
    for name, made in (("storms", "archive"), ("shards", "shards")):
        (away.root / name).symlink_to(data / made)
    return away.run("python", "-c", SHORTENED + example + MODULES).splitlines()


def test_every_file_that_is_not_code_is_in_the_wheel(wheel: Path) -> None:
    built_in = [path for folder in (PRESETS, SUITES, SPACES, PROFILES) for path in folder.glob("*.yaml")]
    pages = [path for kind in ("css", "html", "js") for path in (PROJECT / "hpc").rglob(f"*.{kind}")]
    files = [*built_in, DROP_TABLE, *pages, PROJECT / "hpc" / "bench" / "report" / "paper.yaml"]
    files += [PROJECT / "hpc" / "tracking" / "report_template.txt"]
    files += [path for path in NETS.glob("*/*") if path.is_file()]
    expected = {f"polarcast/{path.relative_to(PROJECT)}" for path in files} | {"polarcast/py.typed"}
    assert expected <= set(ZipFile(wheel).namelist())
    assert all(any(path.is_relative_to(folder) for path in files) for folder in (PRESETS, SUITES, SPACES, PROFILES))


def test_only_extras_are_missing(away: Away, printed: list[str]) -> None:
    """Every module can be imported, or needs a distribution of an extra."""
    file, missing = json.loads(printed[-1])
    assert Path(file).is_relative_to(away.site)
    assert not Path(polarcast.__file__).is_relative_to(away.site)
    assert {name: what for name, what in missing.items() if what.partition(".")[0] not in OF_EXTRAS} == {}


def test_the_example_of_the_readme(away: Away, printed: list[str]) -> None:
    gain, shape, _ = printed
    assert gain.startswith("RMSE ")
    assert shape == "(1, 1, 32, 32) ('member', 'time', 'y', 'x')"
    assert (away.root / "rain.nc").is_file()


def test_doctor(away: Away) -> None:
    checks = json.loads(away.run("polarcast", "doctor", "--json"))["checks"]
    assert {check["where"] for check in checks if check["ok"]} >= {"packages", "torch", "two processes"}


def test_suite_to_table_and_leaderboard(away: Away, suite: Path) -> None:
    assert "U-Net" in (suite / "report.html").read_text(encoding="utf-8")
    # Only runs of a known source revision are ranked: the wheel has recorded that of its checkout.
    away.run("polarcast", "leaderboard", suite, "--score", "rmse", "--html", "board.html")
    page = (away.root / "board.html").read_text(encoding="utf-8")
    assert all(cell.name in page for cell in (suite / "cells").iterdir())


def test_a_net_of_the_zoo(away: Away, suite: Path) -> None:
    """Nets that come with the wheel are whole, and forecast; so does one that is packed away from the checkout."""
    away.run(
        "polarcast",
        "data",
        "synth",
        "storm",
        "--events",
        "1",
        "--frames",
        "10",
        "--size",
        "64",
        "--preset",
        "any-radar",
    )
    nets = json.loads(away.run("polarcast", "zoo", "list", "--json"))["nets"]
    assert {net["name"] for net in nets} == {"nowcast-dualpol", "nowcast-zh", "qpe-dualpol"}
    for net in nets:
        assert away.run("polarcast", "zoo", "show", net["name"]).startswith(f"# {net['name']}")
        away.run("polarcast", "predict", f"zoo:{net['name']}", "storm", f"{net['name']}.nc", "--event", "0")
        assert (away.root / f"{net['name']}.png").is_file()
    [cell] = (path for path in (suite / "cells").iterdir() if "unet" in path.name)
    [shards] = suite.glob("data-*/shards")
    away.run("polarcast", "zoo", "add", cell, "--out", "nets/tiny", "--license", "Apache-2.0")
    forecast = ("predict", "zoo:./nets/tiny", shards, "zoo.nc", "--event", "0")
    assert json.loads(away.run("polarcast", *forecast, "--json"))["run"] == "zoo:./nets/tiny"
    assert (away.root / "zoo.nc").is_file()
    assert (away.root / "zoo.png").is_file()


@pytest.mark.parametrize("verb", [("train", "standard"), ("bench", "paper"), ("sweep", "furenet")])
def test_job_script_of_what_is_built_in(away: Away, verb: tuple[str, ...]) -> None:
    script = away.run("polarcast", "submit", "--cluster", "gpu", "--dry-run", "--", *verb)
    assert "#SBATCH" in script
    assert " ".join(verb) in script

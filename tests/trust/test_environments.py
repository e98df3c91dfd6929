"""Locales, home folders, closed streams, narrow terminals and odd paths: no traceback, and the same files."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polarcast.data.files import read_json
from polarcast.hpc.utils.environment import use_caches

DRIVER = """
import json, sys
from polarcast.hpc.cli.app import main
if "bench" in sys.argv[1]:
    from polarcast.hpc.bench import run
    from polarcast.hpc.bench.worker import run_cell
    run.run_processes = lambda jobs, workers, board, watch: [run_cell(job.folder) for job in jobs]
codes = []
for line in sys.argv[1].strip().splitlines():
    sys.argv = ["polarcast", *line.split()]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
    with open("codes.json", "w") as file:
        json.dump(codes, file)
"""
"""Runs several commands in one process, and the cells of a suite too: Python and torch take most time to start."""


@dataclass(frozen=True)
class Surroundings:
    """What differs from an ordinary shell; a variable that is None is not set."""

    folder: str = "plain"
    variables: Mapping[str, str | None] = field(default_factory=dict)
    closed: Sequence[int] = ()
    umask: int = 0o022

    def _close(self) -> None:
        for number in self.closed:
            os.close(number)

    def run(self, parent: Path, calls: str) -> tuple[list[int | None], str]:
        """Run commands, one a line, inside a folder; return their exit codes, and all output."""
        place = parent / self.folder
        place.mkdir(exist_ok=True)
        wanted = {**os.environ, "OMP_NUM_THREADS": "1", **self.variables}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, calls], cwd=place, umask=self.umask, timeout=300,
            env={name: value for name, value in wanted.items() if value is not None},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=self._close,
        )  # fmt: skip
        codes = place / "codes.json"
        output = done.stdout.decode(errors="replace")
        assert codes.is_file(), output
        return json.loads(codes.read_text()), output


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": None}
PLAIN = Surroundings()
TABLE = {
    "ASCII": Surroundings("ümläut", ASCII),
    "Latin-1": Surroundings("ü [red]x", LATIN),
    "Latin-1 streams, narrow, no HOME": Surroundings(
        "new\nline", {"PYTHONIOENCODING": "latin-1", "COLUMNS": "40", "HOME": None}
    ),
    "HOME read-only, umask, no width": Surroundings("\udcff", {"HOME": "/dev/null", "COLUMNS": "0"}, umask=0o077),
    "all closed": Surroundings("-dash#%?&'\"", closed=[0, 1, 2]),
}
QUICK = """
data synth ärchiv --events 4 --frames 3 --size 32 --preset tiny --workers 1
data shard ärchiv shärds --split all-test --workers 1
data check ärchiv --workers 1
predict --help
predict nöwhere\x1b[31m ärchiv out.nc
data check …
"""
CODES = [0, 0, 0, 0, 2, 2]


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of a Latin-1 locale, for LOCPATH."""
    folder = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / "de_DE.ISO-8859-1")]
    if not shutil.which("localedef") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("localedef can't make a Latin-1 locale here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCPATH", str(folder))
        yield folder


def content(folder: Path) -> dict[str, str]:
    """Return relative path → digest of all files but the manifest, which holds the time and the archive's path."""
    assert len(read_json(folder / "shärds" / "manifest.json")["shards"]) == 1
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("codes.json", "manifest.json")
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of the commands in an ordinary shell."""
    parent = tmp_path_factory.mktemp("plain")
    codes, output = PLAIN.run(parent, QUICK)
    assert codes == CODES, output
    return content(parent / PLAIN.folder)


@pytest.mark.parametrize("name", TABLE)
def test_no_surroundings_change_files_or_end_in_a_traceback(
    name: str, plain: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    around = TABLE[name]
    if "ISO-8859-1" in str(around.variables):
        request.getfixturevalue("locales")
    codes, output = around.run(tmp_path, QUICK)
    assert codes == CODES, output
    assert "Traceback" not in output
    assert "\x1b" not in output
    assert content(tmp_path / around.folder) == plain
    if around.umask == 0o077:
        assert not any(path.stat().st_mode & 0o077 for path in (tmp_path / around.folder).rglob("*"))


def start(words: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "polarcast.hpc.cli", *words.split()]
    return subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", **options)


def test_a_reader_that_leaves_causes_no_traceback() -> None:
    process = start("data synth --help", stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()
    assert (process.communicate()[1], process.returncode) == ("", 1)


def test_results_that_no_disk_can_hold_are_not_lost_silently() -> None:
    with open("/dev/full", "w") as full:
        process = start("--version", stdout=full)
        line = process.communicate()[1]
    assert process.returncode != 0
    assert line.startswith("polarcast: output: No space left on device")
    assert line.count("\n") == 1


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_missing_home_makes_no_folder_called_tilde(
    is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(os, "environ", {"TMPDIR": str(tmp_path)})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if is_taken:
        (tmp_path / f"polarcast-{os.geteuid()}").symlink_to("/etc")
    use_caches()
    home = Path(os.environ["HOME"])
    assert (home.parent, home.is_symlink(), home.stat().st_mode & 0o777) == (tmp_path, False, 0o700)
    assert os.environ["MPLCONFIGDIR"] == os.environ["XDG_CACHE_HOME"] == str(home)


SUITE = """
data: {split: 0.5/0.2/0.3}
models:
  fitted: {label: "größer [mm/h]", set: {model: {name: power_law}}}
tables:
  t: {title: "RMSE [red] ü", metrics: [rmse]}
"""
LONG = """
data synth ärchiv --events 6 --frames 3 --size 32 --preset tiny --workers 1
data shard ärchiv shärds --split 0.5/0.2/0.3 --workers 1
data check shärds
train demo data.shards=shärds model.name=power_law train.threads=1 --out rün
evaluate rün --by class
predict rün ärchiv öut.nc --event 0
bench süite.yaml --archive ärchiv --out süite
leaderboard rank rün süite --html böard.html --csv böard.csv
"""
MADE = ("öut.nc", "öut.png", "böard.html", "böard.csv", "süite/report.html", "süite/tables/t.md", "rün/scores.parquet")


@pytest.mark.journey
def test_no_result_is_lost_in_odd_surroundings(tmp_path: Path, locales: Path) -> None:
    around = Surroundings("größer [red]", {**LATIN, "HOME": "/dev/null", "COLUMNS": "40"}, umask=0o077)
    folder = tmp_path / around.folder
    folder.mkdir()
    (folder / "süite.yaml").write_text(SUITE, encoding="utf-8")
    codes, output = around.run(tmp_path, LONG)
    assert codes == [0] * 8, output
    assert "Traceback" not in output
    assert "atplotlib" not in output
    assert [name for name in MADE if not (folder / name).is_file()] == []
    for path in folder.rglob("*"):
        if path.suffix in (".html", ".csv", ".md", ".json", ".jsonl", ".yaml"):
            path.read_text("utf-8")
    assert "größer" in (folder / "süite" / "report.html").read_text("utf-8")
    assert '<meta charset="utf-8">' in (folder / "böard.html").read_text("utf-8").lower()

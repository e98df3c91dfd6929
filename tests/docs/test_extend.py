"""What the pages of docs/extend say is done to a copy of the checkout, and run.

A Python or YAML block whose title is a path is that file. `PATH, above: TEXT`, `below` or `instead of` changes the one
line of a file that contains TEXT; quotes of either kind are the same.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from docs.tools.blocks import Block, blocks, commands
from polarcast.data.archive import open_archive
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from tests.support import warm
from tests.support.finished_run import UNET

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/extend"
CODE = ("data", "models", "hpc", "sweeps", "slurm", "tests")
CHANGE = re.compile(r"(?P<file>[\w./]+), (?P<how>above|below|instead of): (?P<text>.+)")
WITHOUT_FIGURES = """
import polarcast.hpc.bench.figures.drawn as drawn
from polarcast.hpc.cli.app import main
drawn.drawn_or_draw = lambda *_: []
main()
"""
"""The command `polarcast`, but without the figures of a suite, which take most of its time."""
SHORT = ["train.steps=2", "train.validate_every=1", "train.threads=1"]
EXTENSIONS = ("model", "score", "radar-format", "reader")
"""Pages that change the code."""
PATIENCE = 300
pytestmark = pytest.mark.docs


def blocks_of(name: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    return blocks(PAGES / f"{name}.md")


def files_of(name: str) -> list[Block]:
    """Return the blocks of a page that are files, or change one."""
    return [block for block in blocks_of(name) if block.file or block.is_change]


def texts_of(name: str) -> list[str]:
    """Return the output that a page shows."""
    return [block.text.strip() for block in blocks_of(name) if block.language == "text"]


def commands_of(name: str, program: str = "polarcast") -> Iterator[tuple[str, ...]]:
    """Yield the commands of a page that can be run here: without a title, or that need what is above on the page."""
    for block in blocks_of(name):
        if block.language == "bash" and (block.is_run or block.is_of_changed_code):
            yield from (command.words for command in commands(block) if command.words[0] == program)


def plain(text: str) -> str:
    """Return text in which all quotes are of one kind."""
    return text.replace('"', "'")


def apply(block: Block, folder: Path) -> None:
    """Write the file of a block, or change the one line that it names."""
    if block.file:
        path = folder / block.file
        assert not path.exists() or path.suffix == ".yaml", f"{path} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return
    change = CHANGE.fullmatch(block.title)
    assert change, block.title
    path, how, text = folder / change["file"], change["how"], change["text"]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    [at] = [number for number, line in enumerate(lines) if plain(text) in plain(line)]
    indent = re.match(" *", lines[at])[0]  # type: ignore[index]
    added = block.text if path.suffix == ".yaml" else textwrap.indent(block.text, indent)
    lines[at : at + 1] = {"above": [added, lines[at]], "below": [lines[at], added], "instead of": [added]}[how]
    path.write_text("".join(lines), encoding="utf-8")


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout, with an archive, shards and runs."""

    path: Path

    def run(self, *command: str) -> str:
        """Run a command of a page; return its output. Trainings are short."""
        words = [*command, *(SHORT if command[1] == "train" else [])]
        by = {"pytest": ["-m", "pytest", "-p", "no:cacheprovider"], "bench": ["-c", WITHOUT_FIGURES]}
        program = by.get(words[0]) or by.get(words[1]) or ["-m", "polarcast.hpc.cli"]
        command_line = [sys.executable, *program, *words[1:]]
        done = warm.run(command_line, cwd=self.path, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return str(done.stdout)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Copy the code, do all that the pages say, and offer a fork server that imports the copy."""
    path = tmp_path_factory.mktemp("checkout")
    package = path / "polarcast"
    package.mkdir()
    for name in CODE:
        shutil.copytree(ROOT / name, path / name)  # with compiled kernels, which numba uses if their file is the same
        if name != "tests":
            (package / name).symlink_to(path / name)
    for source in (path / "hpc/api").iterdir():
        (package / source.name).symlink_to(source)
    shutil.copy(ROOT / "pyproject.toml", path)
    for page in EXTENSIONS:
        for block in files_of(page):
            apply(block, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(path))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv(warm.ADDRESS, "")  # restored afterwards
        with warm.fork_server(tmp_path_factory.mktemp("forks")):
            found = Checkout(path)
            _make_runs(found)
            yield found
            patch.setenv(warm.ADDRESS, "")


def _make_runs(checkout: Checkout) -> None:
    archive = checkout.path / "storms"
    write_archive(archive, events=8, frames=3, size=32, preset="tiny", seed=1)
    write_shards(open_archive(archive), checkout.path / "shards", split="0.5/0.25/0.25")
    checkout.run("polarcast", "train", "demo", "data.shards=shards", *UNET, "--out", "runs/dualpol")
    checkout.run("polarcast", "evaluate", "runs/dualpol")


def test_the_copy_is_what_runs(checkout: Checkout) -> None:
    done = warm.run(
        [sys.executable, "-c", "import polarcast.models.registry as r; print(r.__file__, 'dilated' in r.MODELS)"],
        cwd=checkout.path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(checkout.path / "polarcast/models/registry.py"), "True"]


def test_the_model_is_trained_on_both_arms_and_scored(checkout: Checkout) -> None:
    for words in commands_of("model"):
        if words[1] != "bench":
            checkout.run(*words)
    radar, dualpol = (
        json.loads((checkout.path / f"runs/{name}/card.json").read_text(encoding="utf-8"))["parameters"]
        for name in ("dilated-radar", "dilated")
    )
    assert radar == pytest.approx(dualpol, rel=0.01)
    assert (checkout.path / "runs/dilated/scores.parquet").is_file()


def test_the_suite_has_a_row_of_the_model(checkout: Checkout) -> None:
    [words] = [words for words in commands_of("model") if words[1] == "bench"]
    file = checkout.path / words[2]
    file.write_text(re.sub(r"steps: \d+, validate_every: \d+", "steps: 2, validate_every: 2", file.read_text("utf-8")))
    checkout.run(*words)
    table = (checkout.path / "runs/dilated-suite/tables/main.csv").read_text(encoding="utf-8")
    assert "dilated" in table


def test_a_script_adds_a_model_for_its_process(checkout: Checkout) -> None:
    [block] = [block for block in blocks_of("model") if block.title.endswith("in mymodels.py")]
    shutil.copy(checkout.path / "models/qpe/dilated.py", checkout.path / "mymodels.py")
    text = block.text.replace('"dilated"', '"outside"').replace("name=dilated", "name=outside")
    short = text.replace('"data.shards=shards"', f'"data.shards=shards", *{SHORT}')
    assert short != text
    done = warm.run([sys.executable, "-c", short], cwd=checkout.path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) > 0


def test_scores_are_computed_from_records(checkout: Checkout) -> None:
    recorded, by_class, scored = (checkout.run(*words) for words in commands_of("score"))
    assert re.search(r"^.*\bME \[mm/h\]", recorded, re.M)
    assert "RMSE" in recorded
    assert "ME observed 10–50 mm/h" in by_class.replace("\n", " ")
    assert "peak ratio" in scored


def test_a_table_is_added_without_training(checkout: Checkout) -> None:
    first, second = list(commands_of("table"))
    whole, more = files_of("table")
    apply(whole, checkout.path)
    checkout.run(*first)
    tables = checkout.path / "runs/rain/tables"
    before = {path.name for path in tables.iterdir()}
    apply(more, checkout.path)
    checkout.run(*second)
    new = {path.name for path in tables.iterdir()} - before
    assert {"by_class.csv", "by_threshold.csv"} <= new
    assert "mae@class=50" in (tables / "by_class.csv").read_text(encoding="utf-8")


def test_the_reader_gives_the_same_training(checkout: Checkout) -> None:
    [words] = list(commands_of("reader"))
    checkout.run(*words, "train.log_every=1")
    checkout.run(*words[:-1], "runs/mapped", "data.reader=mapped", "train.log_every=1")
    of_run = [steps(checkout.path / "runs" / name) for name in ("from-memory", "mapped")]
    assert of_run[0] == of_run[1]
    assert len(of_run[0]) == 2


def steps(run: Path) -> list[tuple[str, float]]:
    """Return samples and loss of each step."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(record["samples"], record["loss"]) for record in records if record["event"] == "step"]


def test_profiles_are_rendered(checkout: Checkout) -> None:
    for block in files_of("cluster-profile"):
        apply(block, checkout.path)
    doctor, *trainings = (checkout.run(*words) for words in commands_of("cluster-profile"))
    assert doctor.strip().splitlines()[-1] == texts_of("cluster-profile")[0]
    for script in (doctor, *trainings):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "#SBATCH --array=0-4%2" in trainings[-1]
    assert "data.stage_to=/local/nvme" in trainings[-1]


def test_the_error_of_a_mistyped_key_is_as_printed(checkout: Checkout) -> None:
    (checkout.path / "mine.yaml").write_text("gpu_per_node: 4\n", encoding="utf-8")
    words = ["polarcast", "submit", "--cluster", "mine.yaml", "--dry-run", "--", "doctor"]
    with pytest.raises(AssertionError) as raised:
        checkout.run(*words)
    assert texts_of("cluster-profile")[-1] in str(raised.value)


def test_the_tests_of_the_pages_pass(checkout: Checkout) -> None:
    """Also the elastic check of all readers, with fewer examples."""
    elastic = checkout.path / "tests/data/loading/test_elastic.py"
    text, fewer = re.subn(r"max_examples=\d+", "max_examples=5", elastic.read_text(encoding="utf-8"))
    assert fewer
    elastic.write_text(text, encoding="utf-8")
    tests = [words[1] for name in EXTENSIONS for words in commands_of(name, "pytest")]
    output = checkout.run("pytest", *tests)
    assert re.search(r"\b\d+ passed", output)
    assert not re.search("failed|skipped|error", output)


def change_of(how: str, text: str) -> Block:
    return Block("page.md", 1, "python", f"a.py, {how}", text)


@pytest.mark.parametrize("text", ["nothing like it", "e"])
def test_a_change_of_no_line_or_of_several_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one = 1\nthree = 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="values to unpack"):
        apply(change_of(f"above: {text}", "two = 2\n"), tmp_path)


def test_a_line_is_put_above_below_or_instead(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    for how, expected in (("above", "b\n  a"), ("below", "a\n  b"), ("instead of", "b")):
        path.write_text("  a\n", encoding="utf-8")
        apply(change_of(f"{how}: a", "b\n"), tmp_path)
        assert path.read_text(encoding="utf-8") == f"  {expected}\n"


def test_every_page_runs_something() -> None:
    names = [path.stem for path in PAGES.glob("*.md") if path.stem != "architecture"]
    assert [name for name in names if not [*commands_of(name), *commands_of(name, "pytest")]] == []

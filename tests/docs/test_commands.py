"""Commands and Python blocks of the documentation: all can be read, and those that need nothing special run."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from docs.tools.blocks import EXTEND, LANGUAGES, ROOT, Block, blocks, commands, pages
from docs.tools.commands import problems
from tests.support.docs_sandbox import Sandbox, copied, prepare

PAGES = {page.relative_to(ROOT).as_posix(): blocks(page) for page in pages()}
READ = [name for name, found in PAGES.items() if any(block.language in LANGUAGES for block in found)]
RUN = [name for name, found in PAGES.items() if not name.startswith(EXTEND) and any(block.is_run for block in found)]
"""Pages that are run here; those of docs/extend are run by test_extend.py, in a checkout changed as they say."""
pytestmark = pytest.mark.docs


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with finished data and runs. The first worker of pytest-xdist that needs it makes it for all."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder, finished = shared / "docs", shared / "docs.finished"
    with (shared / "docs.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            prepare(folder)
            finished.touch()
    return folder


@pytest.fixture
def sandbox(prepared: Path, tmp_path: Path) -> Sandbox:
    """Copy of the prepared folder, for one page."""
    return copied(prepared, tmp_path / "sandbox")


def block_of(text: str, language: str = "bash", title: str = "") -> Block:
    return Block("page.md", 10, language, title, text)


def page_of(tmp_path: Path, text: str) -> Path:
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    return tmp_path / "page.md"


@pytest.mark.parametrize("page", READ)
def test_blocks_can_be_read(page: str) -> None:
    assert [what for block in PAGES[page] for what in problems(block)] == []


# With `--dist loadgroup`, each page is a group of its own, so that pages run at the same time.
@pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.xdist_group(page)) for page in RUN])
def test_blocks_run(page: str, sandbox: Sandbox) -> None:
    sandbox.run_page(ROOT / page, ROOT)
    assert not sandbox.failures, sandbox.failures[0]
    assert sandbox.ran == sum(block.is_run for block in PAGES[page]) > 0


def test_there_are_blocks_to_run() -> None:
    """The README's commands and Python run, and most guides have something that does."""
    run = [block for name in RUN for block in PAGES[name] if block.is_run]
    assert {block.language for block in run} == set(LANGUAGES)
    assert "README.md" in RUN
    assert len([command for block in run if block.language == "bash" for command in commands(block)]) > 10
    needy = [block for found in PAGES.values() for block in found if block.language in LANGUAGES and block.needs]
    assert len(run) > len(needy) / 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("polarcast train demo --nonsense", "No such option: --nonsense"),
        ("polarcast tran demo", "no verb 'tran'"),
        ("polarcast data shards a b", "no verb 'shards'"),
        ("polarcast train demo train.stepz=3", "unknown key"),
        ("polarcast train demo model.name=probability_matched task=nowcast base=runs/net model.of=2", "unknown key"),
        ("polarcast train mine.yaml train.steps=none", "train.steps"),
        ("polarcast train huge", "no such preset"),
        ("polarcast bench dmeo", "no suite 'dmeo'"),
        ("polarcast sweep tiny train.stepz=3", "train.stepz"),
        ("polarcast evaluate runs/a --scores csj@threshold=10", "csj"),
        ("polarcast data synth storms --events many", "--events"),
        ("polarcast submit --cluster moon --dry-run -- train demo", "moon"),
        ("polarcast submit --dry-run -- train demo --nonsense", "No such option"),
        ("polarcast submit --array 0-4 --dry-run -- train demo 'seed={task}' arm=polar", "arm"),
        ("polarcast data synth storms | tee log", "through a shell"),
        ("polarcast evaluate RUN…", "placeholder"),
        ("make dmeo", "no target 'dmeo'"),
        ("pip install 'polarcast[jngest]'", "no extra 'jngest'"),
        ("sbatch slurm/train.sbatch demo data.shard=s", "unknown key"),
        ("sbatch slurm/trian.sbatch demo", "no such script"),
        ("python -m docs.tools.resluts", "no module"),
        ("pytest tests/test_nothing.py", "no such test"),
        ("firefox board.html", "not run by the tests"),
        ("echo 'open", "not readable"),
    ],
)
def test_a_wrong_command_is_found(text: str, expected: str) -> None:
    found = list(problems(block_of(f"# first\n{text}\n")))
    assert found
    assert expected in found[0]
    assert found[0].startswith("page.md:1")


@pytest.mark.parametrize(
    "text",
    [
        "polarcast train demo arm=radar \\\n    data.shards=shards  # a comment",
        "WANDB_MODE=offline polarcast track replay runs --project radar",
        "polarcast leaderboard runs --score csi@threshold=10",
        "polarcast train demo task=nowcast model.name=probability_matched base=runs/net",
        "polarcast train --help",
        "polarcast submit --array 0-4%2 -- train standard 'seed={task}' data.shards=/scratch/shards",
        "cat > mine.yaml <<'EOF'\npartition: gpu\nwhatever | is not a command\nEOF",
        "make lint results",
    ],
)
def test_a_right_command_is_accepted(text: str) -> None:
    assert list(problems(block_of(text))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import polarcast as pc\npc.opn_run('a')", "no 'opn_run'"),
        ("import polarcast as pc\npc.scores.csj(a, b)", "no 'scores.csj'"),
        ("import polarcast as pc\npc.open_shards('s', splits='test')", "no argument 'splits'"),
        ("from polarcast.hpc.nowhere import x", "no module"),
        ("from polarcast.hpc.scores.query import parse_scores", "has no 'parse_scores'"),
        ("print(", "no valid Python"),
    ],
)
def test_wrong_python_is_found(text: str, expected: str) -> None:
    [found] = problems(block_of(text, "python", "Needs a GPU"))
    assert expected in found
    assert found.startswith("page.md:1")


def test_a_title_says_what_is_needed() -> None:
    assert "neither" in next(problems(block_of("ls", title="Example")))
    assert list(problems(block_of("firefox board.html", title="Needs a browser"))) == []
    assert list(problems(block_of("x = 1", "python", title="mine.py"))) == []


def test_a_failing_command_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    text = "Text.\n\n```bash\nls runs\npolarcast evaluate runs/nothing\n```\n\n```python\nraise SystemExit\n```\n"
    sandbox.run_page(page_of(tmp_path, text), tmp_path)
    [failure] = sandbox.failures
    assert failure.startswith("page.md:5: exit code 2 of: polarcast evaluate runs/nothing")
    assert sandbox.ran == 0


def test_failing_python_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    text = "```python\nx = 1\n```\n\n```python\nprint(x)\nx.y\n```\n"
    sandbox.run_page(page_of(tmp_path, text), tmp_path)
    [failure] = sandbox.failures
    assert failure.startswith("page.md:6: ")
    assert '"page.md, line 6", line 2' in failure
    assert sandbox.ran == 1


def test_a_file_of_a_page_is_used(sandbox: Sandbox, tmp_path: Path) -> None:
    text = '```yaml title="my/net.yaml"\ntrain: {steps: 3}\n```\n\n```bash\npolarcast estimate my/net.yaml\n```\n'
    sandbox.run_page(page_of(tmp_path, text), tmp_path)
    assert sandbox.failures == []
    assert sandbox.ran == 1


def test_pages_do_not_share_what_they_change(prepared: Path, tmp_path: Path) -> None:
    first, second = (copied(prepared, tmp_path / name) for name in ("first", "second"))
    page = page_of(tmp_path, "```bash\nrm -r runs/demo\ntouch_is_no_program=1 mkdir new\n```\n")
    first.run_page(page, tmp_path)
    assert first.failures == []
    assert not (first.folder / "runs" / "demo").exists()
    assert (second.folder / "runs" / "demo" / "tables").is_dir()
    assert not (second.folder / "new").exists()

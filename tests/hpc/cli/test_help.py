"""The help: every verb in a panel and with examples that its own options understand; completion in bash."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from polarcast.hpc.cli.app import app
from polarcast.hpc.cli.default_verb import with_verb
from polarcast.hpc.cli.panels import OTHERS, PANELS

ROOT: Any = typer.main.get_command(app)


def leaves(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Return all verbs without subcommands, with the words that call them."""
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from leaves(child, *path, name)
    else:
        yield " ".join(path), command


LEAVES = dict(leaves(ROOT))


def examples(text: str) -> list[list[str]]:
    """Return the words of each polarcast command in the examples of a help text."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    calls = [
        call
        for part in paragraphs
        for call in re.findall(r"(?:^|: |&& )polarcast (.+?)(?=; |, or: | && |$|\. \w)", part)
    ]
    return [[call[0], *with_verb(ROOT.commands[call[0]], call[1:])] for call in map(shlex.split, calls)]


def test_every_verb_is_in_one_panel() -> None:
    grouped = [verb for verbs in PANELS.values() for verb in verbs]
    assert sorted(grouped) == sorted(ROOT.commands)
    panels = {verb: command.rich_help_panel for verb, command in ROOT.commands.items()}
    assert panels == {verb: panel for panel, verbs in PANELS.items() for verb in verbs}
    assert OTHERS not in PANELS


def test_the_help_shows_panels_in_order(polarcast_here: Any) -> None:
    code, out, _ = polarcast_here("--help")
    assert code == 0
    titles = re.findall(r"╭─ ([\w ]+) ─", out)
    assert titles == ["Options", *PANELS]


@pytest.mark.parametrize("verb", LEAVES)
def test_examples_are_understood(verb: str) -> None:
    """Each help has an example of its own verb, and every command in it has the options that it uses."""
    calls = examples(LEAVES[verb].help or "")
    assert any(" ".join(call).startswith(verb) for call in calls), LEAVES[verb].help
    for words in calls:
        command, rest = ROOT, list(words)
        while isinstance(command, TyperGroup):
            command = command.commands[rest.pop(0)]
        command.make_context(" ".join(words), rest)


def test_a_wrong_example_is_found() -> None:
    [words] = examples("Example: polarcast train demo --nonsense")
    with pytest.raises(typer.BadParameter.__base__):  # type: ignore[arg-type]
        ROOT.commands["train"].make_context("train", words[1:])


COMPLETE = """
PATH={bin}:$PATH
eval "$(polarcast --show-completion bash)"
COMP_WORDS=({words}) COMP_CWORD={last}
$(complete -p polarcast | sed 's/.*-F \\([^ ]*\\) .*/\\1/') polarcast
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("polarcast ''", set(ROOT.commands)),
        ("polarcast data s", {"synth", "shard"}),
        ("polarcast train --proc", {"--processes"}),
    ],
)
def test_completion_in_bash(words: str, expected: set[str], tmp_path: Path) -> None:
    script = COMPLETE.format(bin=Path(sys.executable).parent, words=words, last=len(shlex.split(words)) - 1)
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=120)
    assert set(done.stdout.split()) == expected, done.stderr


def test_completion_is_installed_for_the_user(tmp_path: Path) -> None:
    polarcast = Path(sys.executable).with_name("polarcast")
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    subprocess.run([polarcast, "--install-completion", "bash"], env=env, check=True, capture_output=True, timeout=120)
    installed = tmp_path / ".bash_completions" / "polarcast.sh"
    assert str(installed) in (tmp_path / ".bashrc").read_text(encoding="utf-8")
    assert "complete" in installed.read_text(encoding="utf-8")

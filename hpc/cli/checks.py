"""Checks of what a command line names, before anything heavy is imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.folder_kind import RUN_FILE, SUITE_FILE
from polarcast.hpc.utils.sources import SUITES, yaml_source

Trust = Annotated[
    bool, typer.Option("--trust", help="Read the run's shards through a command or URL, and stage them, as it says.")
]


def check_words(words: Sequence[str]) -> None:
    """Check that no word of the command line is empty, as `"$OUT"` is where OUT is not set.

    An empty path would be the current folder, and an empty value the default.

    Raises:
        BadInput: a word or the value of an option is empty.
    """
    for before, word in zip(("", *words), words, strict=False):
        option, equals, value = word.partition("=")
        if not word or (option.startswith("--") and equals and not value):
            where = next((name for name in (option, before) if name.startswith("-")), f"the word after {before}")
            raise BadInput("is empty", where if before or option else "the first word", "give a value, or remove it")


def check_folders(folders: Sequence[Path]) -> None:
    """Raise BadInput if one of the folders of runs is missing."""
    for folder in folders:
        if not folder.is_dir():
            raise BadInput("no such folder", folder, "give folders of runs, such as runs/")


def checked_run(run: Path) -> Path:
    """Return a run folder. Raises BadInput if it is missing or not a run."""
    if not run.is_dir():
        raise BadInput("no such folder", run, "give the folder of a run")
    if not (run / RUN_FILE).is_file():
        raise BadInput("not a run: it has no config.yaml", run, "start a run with: polarcast train PRESET")
    return run


def suite_folder(suite: str, out: Path | None) -> Path:
    """Return the folder of a suite that was begun: it is named itself, or as in `bench run`.

    Raises:
        BadInput: there is no such suite, or nothing of it in its folder.
    """
    if (Path(suite) / SUITE_FILE).is_file():
        if out:
            raise BadInput("does not go with the folder of a suite", "--out", "leave it out")
        return Path(suite)
    path = yaml_source(suite, SUITES, "suite")
    folder = out
    if folder is None:
        from polarcast.hpc.bench.suite import load_suite

        folder = Path("runs") / load_suite(str(path)).name
    if not (folder / SUITE_FILE).is_file():
        raise BadInput("no suite was begun here", folder, f"run it first: polarcast bench {suite}, or give --out")
    return folder


def find_shards(location: str) -> None:
    """Raise BadInput if a local folder has no shards."""
    from polarcast.data.shards.manifest import NAME, read_manifest
    from polarcast.data.shards.source import ShardSource

    source = ShardSource(location)
    if source.is_local and not (source.folder / NAME).is_file():
        read_manifest(location)

"""Check the arguments of an evaluation without torch, so that a wrong call is answered at once."""

from pathlib import Path

from polarcast.data.errors import BadInput, shown
from polarcast.data.folder_kind import RUN_FILE, SUITE_FILE
from polarcast.data.shards.manifest import NAME
from polarcast.data.splits import SPLITS
from polarcast.hpc.scores.stats.aggregation import AGGREGATIONS

THRESHOLD = "threshold"
AXES = ("class", THRESHOLD, "lead_time", "height", "change")


def check_choices(by: str | None, aggregation: str) -> None:
    """Raise BadInput for an unknown axis or aggregation."""
    for option, value, choices in (("--by", by, (None, *AXES)), ("--aggregation", aggregation, AGGREGATIONS)):
        if value not in choices:
            known = ", ".join(choice for choice in choices if choice)
            raise BadInput(f"unknown value {shown(value)}", option, f"choose from: {known}")


def check_places(run: Path, archive: Path | None, split: str | None) -> None:
    """Check that the run or suite, and the archive, exist; see also `check_split`.

    Raises:
        BadInput: one of them does not.
    """
    if not run.is_dir():
        raise BadInput("no such folder", run, "give the folder of a run or suite, such as runs/unet")
    if not any((run / name).is_file() for name in (SUITE_FILE, RUN_FILE)):
        raise BadInput("neither a run nor a suite", run, "start a run with: polarcast train PRESET")
    if archive is not None and not archive.is_dir():
        raise BadInput("no such folder", archive, f"give an archive, or shards with a {NAME}")
    check_split(split, archive)
    if archive is None and (run / SUITE_FILE).is_file():
        raise BadInput("bench scores a suite on its own data", run, "give --archive, or a run folder below cells/")


def check_split(split: str | None, archive: Path | None) -> None:
    """Raise BadInput for an unknown split, or for a split of the run's own shards next to an archive."""
    if split is None:
        return
    if split not in SPLITS:
        raise BadInput(f"unknown split {shown(split)}", "--split", f"choose from: {', '.join(SPLITS)}")
    if archive is not None:
        raise BadInput("all events of an archive are scored", "--split", "give one of --archive and --split")

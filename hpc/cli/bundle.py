"""The verbs `polarcast bench bundle` and `polarcast bench verify`: share a finished suite, and verify one of others."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.hpc.cli.checks import suite_folder
from polarcast.hpc.cli.show import open_board
from polarcast.hpc.utils.console import Json, plain, print_json, print_text
from polarcast.hpc.utils.exit_codes import FAILED

if TYPE_CHECKING:
    from polarcast.hpc.bench.bundle.rerun import Reruns
    from polarcast.hpc.bench.bundle.verify import OpenedBundle, Verification


def bundle(
    suite: Annotated[str, typer.Argument(help="Suite as in bench run, or the folder of a finished one.")],
    file: Annotated[Path, typer.Option("--file", "-o", help="File to write, such as demo.zip.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the suite; runs/<suite> by default.")] = None,
    as_json: bool = Json,
) -> None:
    """Write a finished suite to one file that others can verify: bench verify FILE.

    The file holds the suite, the manifest of its data, and of each run configuration, provenance, card, log and score
    records; tables, verdict and report. It holds no shards, weights, checkpoints or secrets. Its tables are computed
    anew from the records before it is written. The same suite gives the same bytes.

    Example: polarcast bench bundle demo -o demo.zip
    """
    checked_output(file)
    folder = suite_folder(suite, out)
    from polarcast.hpc.bench.bundle.write import write_bundle

    made = write_bundle(folder, file)
    if as_json:
        print_json({"file": str(file), "suite": made.note.suite, "data": made.note.data, "runs": len(made.cells()),
                    "files": len(made.members), "left_out": list(made.note.left_out)})  # fmt: skip
        return
    print_text(f"{made.note.suite}: {len(made.cells())} runs, {file.stat().st_size / 1000:,.0f} kB in {plain(file)}")
    if made.note.left_out:
        print_text(f"left out: {', '.join(made.note.left_out)}")
    print_text(f"next: polarcast bench verify {plain(file)}")


def verify(
    file: Annotated[Path, typer.Argument(help="File that bench bundle wrote.")],
    rerun: Annotated[int, typer.Option(help="Number of trained runs to draw at random and to train anew.")] = 0,
    archive: Annotated[
        Path | None, typer.Option(help="With --rerun: archive or shards of the suite, unless it is synthetic.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="With --rerun: seed of the draw; random by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --rerun: new folder that keeps data and runs.")] = None,
    as_json: bool = Json,
) -> None:
    """Compute all tables of a bundle anew from its score records, and say which numbers agree.

    Configurations are compared with the suite and with the digests in the names of runs, records with the manifest of
    the data, and the sentences of the verdict with the numbers. Nothing in the file is run.

    --rerun makes the data again, trains runs drawn at random with their configurations and seeds, and says whether
    their scores are equal, or within the luck of training.

    Exit code 0: all agrees; 1: something does not, and is named; 2: the file is no bundle.

    Example: polarcast bench verify demo.zip

    Example: polarcast bench verify demo.zip --rerun 2
    """
    _check_rerun(rerun, {"--archive": archive, "--seed": seed, "--out": out})
    if seed is not None and seed < 0:
        raise BadInput(f"{seed} is below 0", "--seed", "give 0 or more")
    from polarcast.hpc.bench.bundle.verify import open_bundle, verified

    with open_bundle(file) as one:
        found = verified(one)
        if not as_json:
            _show(found)
        again = _rerun(one, found, rerun, archive, seed, out) if rerun else None
    if as_json:
        print_json({**found.as_record(), "rerun": again and again.as_record()})
    elif again:
        _show_again(again)
    if not found.is_ok or (again and not again.is_ok):
        raise typer.Exit(FAILED)


def _check_rerun(count: int, others: Mapping[str, object]) -> None:
    """Raise BadInput for a negative number, and for options that need another one."""
    if count < 0:
        raise BadInput(f"{count} is below 0", "--rerun", "give the number of runs to train anew")
    if not count and (given := [name for name, value in others.items() if value is not None]):
        raise BadInput("needs --rerun", given[0], "add --rerun 2, or leave it out")


def _rerun(
    one: "OpenedBundle", found: "Verification", count: int, archive: Path | None, seed: int | None, out: Path | None
) -> "Reruns":
    from polarcast.hpc.bench.bundle.rerun import rerun

    if not found.has_its_configurations:
        fix = "see what differs above; leave out --rerun"
        raise BadInput("its configurations are not those of its suite, so nothing is trained", one.where, fix)
    with open_board() as board, TemporaryDirectory(prefix="polarcast-rerun-") as kept:
        return rerun(one, count, archive, seed, out or Path(kept) / "suite", board)


def _show(found: "Verification") -> None:
    from polarcast.hpc.bench.bundle.compare import rows_of
    from polarcast.hpc.bench.bundle.verify import LIMIT

    made = found.made
    print_text(f"suite {made['suite']}, {made['runs']} runs; bundled by polarcast {made['bundled_by']}")
    print_text(f"data {made['data'][:12]}")
    if made["origin"]:
        print_text(made["origin"])
    for line in rows_of(found.agreements):
        print_text(line)
    for line in found.missing:
        print_text(f"missing: {line}")
    if made["about_data"]:
        print_text(f"note of its maker: {made['about_data']}")
    if made["left_out"]:
        print_text(f"not in the bundle: {', '.join(made['left_out'])}")
    wrong = sum(not one.is_ok for one in found.agreements)
    print_text("all agrees" if found.is_ok else f"{wrong} of {len(found.agreements)} parts do not agree")
    if not found.is_ok and made["bundled_by"] != made["verified_by"]:
        print_text(f"this is polarcast {made['verified_by']}, whose words and scores may differ from its version")
    print_text(LIMIT)


def _show_again(again: "Reruns") -> None:
    from polarcast.hpc.scores.wording import number

    print_text(f"trained anew: {len(again.results)} of {again.drawn_from} runs, drawn with --seed {again.seed}")
    for of in again.results:
        print_text(of.sentence)
        for score in of.scores:
            limits = (
                "" if score.low is None or score.high is None else f" in [{number(score.low)}, {number(score.high)}]"
            )
            verdict = {True: "within", False: "NOT within", None: "unknown"}[score.is_within]
            print_text(
                f"  {score.score}: recorded {number(score.recorded)}, now {number(score.again)}{limits}: {verdict}"
            )
    if any(of.scores for of in again.results):
        print_text(f"recorded: {again.recorded_on or 'unknown'}")
        print_text(f"now: {again.here}")
        if again.here and again.recorded_on == again.here:
            print_text("the revision and the machine are the same: equal sums were expected")

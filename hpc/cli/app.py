"""The command `polarcast`. Verbs import heavy packages only when they run, so that `--help` is fast."""

import os
import sys
from importlib.metadata import entry_points

import typer

from polarcast.hpc.cli import (
    bench,
    coverage,
    data,
    doctor,
    estimate,
    evaluate,
    explain,
    leaderboard,
    perf,
    power,
    predict,
    robustness,
    submit,
    track,
    train,
)
from polarcast.hpc.cli.checks import check_words
from polarcast.hpc.cli.extensions import VERBS, add_verbs
from polarcast.hpc.utils.console import print_text, run_app
from polarcast.hpc.utils.environment import use_caches, use_passive_waiting, use_utf8

app = typer.Typer(
    name="polarcast",
    help="Train and benchmark nowcasting and rain estimation from dual-polarization weather radar.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(explain.explain)
app.command()(predict.predict)
app.command()(bench.bench)
app.command()(coverage.coverage)
app.command()(power.power)
app.command()(robustness.robustness)
app.add_typer(leaderboard.app, name="leaderboard")
app.command()(submit.submit)
app.command()(estimate.estimate)
app.add_typer(perf.app, name="perf")
app.add_typer(track.app, name="track")
app.command()(doctor.doctor)
add_verbs(app, entry_points(group=VERBS))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print_text(f"polarcast {version('polarcast')}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error in the input."),
) -> None:
    if debug:
        os.environ["POLARCAST_DEBUG"] = "1"


def main() -> None:
    """Run the `polarcast` command."""
    use_utf8()
    run_app(_start)


def _start() -> None:
    use_caches()
    use_passive_waiting()
    check_words(sys.argv[1:])
    app()

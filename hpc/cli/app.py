"""The command `polarcast`. Verbs import heavy packages only when they run, so that `--help` is fast."""

import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points

import typer

from polarcast.hpc.cli import (
    bench,
    claim,
    coverage,
    data,
    doctor,
    estimate,
    evaluate,
    explain,
    finetune,
    leaderboard,
    perf,
    power,
    predict,
    robustness,
    submit,
    track,
    train,
    zoo,
)
from polarcast.hpc.cli.checks import check_words
from polarcast.hpc.cli.extensions import VERBS, add_verbs
from polarcast.hpc.cli.panels import OrderedVerbs, panel_of
from polarcast.hpc.utils.console import print_text, run_app
from polarcast.hpc.utils.environment import use_caches, use_passive_waiting, use_utf8

app = typer.Typer(
    name="polarcast",
    cls=OrderedVerbs,
    help="Train and benchmark nowcasting and rain estimation from dual-polarization weather radar.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS: tuple[Callable[..., None], ...] = (
    train.train, evaluate.evaluate, estimate.estimate, finetune.finetune, claim.claim, robustness.robustness,
    power.power, coverage.coverage, submit.submit, doctor.doctor, predict.predict, explain.explain,
)  # fmt: skip
_GROUPS = {
    "data": data.app, "bench": bench.app, "leaderboard": leaderboard.app, "perf": perf.app, "track": track.app,
    "zoo": zoo.app,
}  # fmt: skip
for _verb in _VERBS:
    app.command(rich_help_panel=panel_of(_verb.__name__))(_verb)
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name, rich_help_panel=panel_of(_name))
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

"""Verbs of other packages, from the entry-point group `polarcast.verbs`."""

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from typing import Any

import typer

from polarcast.data.errors import WorkFailed
from polarcast.hpc.cli.panels import panel_of
from polarcast.hpc.utils.text import one_line

VERBS = "polarcast.verbs"
"""Entry-point group for further verbs: a function for typer, or a `Typer` with subcommands."""
_ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_verbs(app: typer.Typer, points: Iterable[EntryPoint]) -> None:
    """Add the verbs of other packages to the command line.

    One that can't be loaded, or has the name of another verb, breaks no other: the help names it in one line, and so
    does the verb itself.
    """
    taken = {verb.name or getattr(verb.callback, "__name__", "") for verb in app.registered_commands}
    taken |= {str(group.name) for group in app.registered_groups}
    for point in sorted(points, key=lambda point: point.name):
        if point.name in taken:
            _tell(app, f"{_package(point)}: its verb {point.name} is left out, because there is one of this name.")
        else:
            taken.add(point.name)
            _add_verb(app, point)


def _add_verb(app: typer.Typer, point: EntryPoint) -> None:
    try:
        verb = point.load()
        alone = typer.Typer()
        _add(alone, point.name, verb)
        typer.main.get_command(alone)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: this is code of another package
        problem = f"{_package(point)} can't be loaded: {one_line(f'{type(error).__name__}: {error}')}"
        _tell(app, f"{point.name}: {problem}.")
        app.command(point.name, context_settings=_ANY_WORDS, hidden=True)(_failing(point.name, problem))
    else:
        _add(app, point.name, verb)


def _add(app: typer.Typer, name: str, verb: Any) -> None:
    if isinstance(verb, typer.Typer):
        app.add_typer(verb, name=name, rich_help_panel=panel_of(name))
    else:
        app.command(name, rich_help_panel=panel_of(name))(verb)


def _failing(name: str, problem: str) -> Callable[[], None]:
    def verb() -> None:
        raise WorkFailed(f"{name}: {problem} — install it again, or remove it")

    return verb


def _tell(app: typer.Typer, line: str) -> None:
    """Add a line below the help."""
    before = app.info.epilog if isinstance(app.info.epilog, str) else ""
    marked = line.replace("[", "\\[")
    app.info.epilog = f"{before}\n\n{marked}".strip()


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value

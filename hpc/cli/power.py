"""The verb `polarcast power`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.hpc.cli.show import open_board
from polarcast.hpc.utils.console import Json, plain, print_json, print_text, split_names

if TYPE_CHECKING:
    from polarcast.hpc.bench.power.answers import PowerSettings, Sides

FORMAT = "polarcast-power/1"
"""Version of the file that `--out` writes."""
_MOST_SEEDS = 64


def power(
    suite: Annotated[
        Path | None, typer.Argument(help="Folder of a suite, finished or not. Without it, give runs to compare.")
    ] = None,
    first: Annotated[
        list[str] | None,
        typer.Option(help="Reference: an arm or MODEL:ARM of the suite; else runs or scores.parquet; repeatable."),
    ] = None,
    second: Annotated[
        list[str] | None, typer.Option(help="What is compared with it, given in the same way; repeatable.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Models of the suite, such as unet,boosting; default: all.")
    ] = None,
    scores: Annotated[list[str] | None, typer.Option(help="Scores such as csi@threshold=10; repeatable.")] = None,
    effects: Annotated[
        str | None,
        typer.Option(help="Gains: percent of an error, differences of a score. Default: 2%,5%,10%,0.01,0.02,0.05."),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option(help="Seeds of each arm; repeatable. Default: 2, 3, 5 and 8.")
    ] = None,
    wanted_power: Annotated[float, typer.Option("--power", help="Probability with which the gain is found.")] = 0.8,
    level: Annotated[float, typer.Option(help="Level of the interval that must exclude zero.")] = 0.95,
    out: Annotated[Path | None, typer.Option(help="Folder for power.json and the pictures.")] = None,
    as_json: bool = Json,
) -> None:
    """Tell how many events and seeds would show a gain, from the spread of runs that are scored already.

    Example: polarcast power runs/demo, or: polarcast power runs/demo --models unet --effects 5% --out plan

    Of single runs: polarcast power --first r0 --first r1 --second d0 --second d1 --scores rmse
    """
    for option, value, least in (("--power", wanted_power, 0.5), ("--level", level, 0.5)):
        if not least <= value <= 0.999:
            raise BadInput(f"{value:g} is out of range", option, f"give {least} to 0.999, such as 0.8")
    if wrong := [k for k in seeds or () if not 2 <= k <= _MOST_SEEDS]:
        what = "one seed does not show the spread over seeds" if wrong[0] == 1 else f"{wrong[0]} is out of range"
        raise BadInput(what, "--seeds", f"give 2 to {_MOST_SEEDS}")
    _check_sides(suite, first, second, models)
    if out:
        from polarcast.data.files import checked_output

        checked_output(out, is_folder=True)
    from polarcast.hpc.bench.power.answers import EFFECTS, SEEDS, Effect, PowerSettings, check_effects

    texts = split_names(effects) or EFFECTS
    chosen = tuple(sorted(set(seeds or SEEDS)))
    settings = PowerSettings(tuple(map(Effect.parse, texts)), chosen, wanted_power, level)
    check_effects(scores or (), settings.effects)
    _answer(_sides(suite, first, second, models), scores or [], settings, out, as_json)


def _check_sides(suite: Path | None, first: list[str] | None, second: list[str] | None, models: str | None) -> None:
    """Raise BadInput unless a suite, or runs of both sides, are given."""
    if suite is None:
        if not (first and second):
            raise BadInput("give a suite, or runs of both sides", "power", "such as: polarcast power runs/demo")
        if models:
            raise BadInput("is for suites", "--models", "leave it out")
        return
    if not (suite / SUITE_FILE).is_file():
        raise BadInput("not a suite", suite, "give single runs by --first and --second")
    for option, given in (("--first", first), ("--second", second)):
        if given and len(given) > 1:
            raise BadInput("a suite has one arm on each side", option, "give it once")


def _sides(suite: Path | None, first: list[str] | None, second: list[str] | None, models: str | None) -> "list[Sides]":
    from polarcast.hpc.bench.power.sides import sides_of_runs, sides_of_suite

    if suite is None:
        return [sides_of_runs(list(map(Path, first or ())), list(map(Path, second or ())))]
    return sides_of_suite(suite, (first or ["radar"])[0], (second or ["dualpol"])[0], split_names(models) or ())


def _answer(
    sides: "list[Sides]", scores: list[str], settings: "PowerSettings", out: Path | None, as_json: bool
) -> None:
    from polarcast.data.files import checked_output, write_json
    from polarcast.hpc.bench.figures.power import draw_powers
    from polarcast.hpc.bench.power.answers import answers, by_comparison, usual_scores
    from polarcast.hpc.bench.power.render import notes_of, power_table, title_of

    wanted = scores or usual_scores(sides[0], settings.effects)
    out = checked_output(out, is_folder=True) if out else None
    found = []
    with open_board() as board, board.stage("power", "scores", len(sides) * len(wanted)) as done:
        for each in sides:
            for answer in answers(each, wanted, settings):
                found.append(answer)
                done(len(found))
    content = {
        "format": FORMAT,
        "power": settings.power,
        "level": settings.level,
        "rows": [answer.as_row() for answer in found],
    }
    drawn: list[Path] = []
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "power.json", content)
        drawn = draw_powers(out, found, settings)
    if as_json:
        print_json({**content, "figures": [str(path) for path in drawn]})
        return
    for rows in by_comparison(found).values():
        print_text(title_of(rows, settings))
        print_text(power_table(rows))
        print_text(notes_of(rows))
    if drawn:
        print_text(f"written: {plain(out)}/power.json; figures: {', '.join(plain(path.name) for path in drawn)}")

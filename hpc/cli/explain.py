"""The verb `polarcast explain`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.hpc.cli.checks import Trust, checked_run
from polarcast.hpc.cli.show import open_board
from polarcast.hpc.utils.console import Json, plain, print_json, print_text

if TYPE_CHECKING:
    from polarcast.hpc.evaluation.shapley.result import Explanation

Players = Annotated[
    str | None,
    typer.Option(
        help="Parts of the input: channels (variable × height), variables, heights, times, or products such as "
        "variables*times=2, each variable in two groups of frames. Rain: channels; nowcasts: variables."
    ),
]
Imputation = Annotated[
    str,
    typer.Option(
        help="Windows that stand in for absent players (donors). marginal: at random; conditional: those whose "
        "present players resemble the window's most."
    ),
]


def explain(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Trained runs that differ in seed only.")],
    players: Players = None,
    scores: Annotated[
        list[str] | None, typer.Option(help="Scores such as csi@threshold=35,lead_time=*; repeatable.")
    ] = None,
    imputation: Imputation = "marginal",
    windows: Annotated[int, typer.Option(help="Windows to explain, drawn over groups of events.")] = 45,
    background: Annotated[int, typer.Option(help="Donors of each window, from other groups of events.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of windows, donors and noise.")] = 0,
    members: Annotated[int | None, typer.Option(help="Ensemble size; the run's evaluate.members by default.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the run's own shards; test by default.")] = None,
    archive: Annotated[Path | None, typer.Option(help="Explain all events of this archive or shards.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the result; RUN/explain/PLAYERS-IMPUTATION by default.")
    ] = None,
    retrained: Annotated[
        bool, typer.Option("--retrained", help="RUN is a suite that trained every subset of the variables.")
    ] = False,
    empty: Annotated[
        str | None, typer.Option(help="With --retrained: model whose score stands for no input; given ZH by default.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --retrained: model of the subsets; that with the most by default.")
    ] = None,
    is_long: Annotated[bool, typer.Option("--long", help="Start even if it would take more than a day.")] = False,
    trust: Trust = False,
    as_json: bool = Json,
) -> None:
    """Explain forecasts and scores of a trained model by exact Shapley values of its inputs, with intervals.

    Several runs are the seeds of one model.

    Example: polarcast explain runs/unet, or: polarcast explain runs/furenet-* --players variables*times=2
    """
    if retrained:
        of_imputation = {"--players": players, "--members": members, "--split": split, "--archive": archive}
        _explain_suite(runs, scores or [], empty, model, out, of_imputation, as_json)
        return
    if option := next((name for name, given in (("--empty", empty), ("--model", model)) if given), None):
        raise BadInput("belongs to --retrained", option, "add --retrained, or remove it")
    from polarcast.hpc.evaluation.arguments import check_split

    check_split(split, archive)
    for run in runs:
        checked_run(run)
    # Last, because it imports torch.
    from polarcast.hpc.evaluation.shapley.explain import ExplainSpec, explain_into
    from polarcast.hpc.runs.folder import RunFolder

    spec = ExplainSpec(
        players, tuple(scores or ()), windows, background, imputation, seed, members, split or "test", is_long
    )
    with open_board() as board:
        found, folder = explain_into([RunFolder(run, trust) for run in runs], spec, board, out, archive)
        drawn = _draw(folder, found)
    _show(found, folder, drawn, as_json)


def _explain_suite(
    runs: list[Path],
    scores: list[str],
    empty: str | None,
    model: str | None,
    out: Path | None,
    of_imputation: Mapping[str, object],
    as_json: bool,
) -> None:
    """Explain the variables of a suite by retraining. Raises BadInput for several folders or options of imputation."""
    if unfit := next((name for name, given in of_imputation.items() if given is not None), None):
        raise BadInput("does not belong to --retrained, which reads records only", unfit, "remove it")
    if len(runs) != 1:
        raise BadInput(f"{len(runs)} folders", "--retrained", "give the folder of one suite, such as runs/demo")
    from polarcast.hpc.bench.retrained import draw_retrained, explain_suite, retrained_table

    found, folder = explain_suite(runs[0], scores, empty=empty, model=model, out=out)
    drawn = draw_retrained(folder, found)
    if as_json:
        masked = [explanation.as_record() for explanation in found.masked]
        about = {"folder": str(folder), "given": list(found.game.given), "empty": found.game.empty}
        print_json({**about, **found.explanation.as_record(), "masked": masked, "figures": [str(p) for p in drawn]})
        return
    print_text(retrained_table(found))
    print_text(f"result {plain(folder / 'explain.json')}; figures {plain(', '.join(path.name for path in drawn))}")


def _draw(folder: Path, explanation: "Explanation") -> list[Path]:
    from polarcast.hpc.bench.figures.shapley import draw_explanation

    return draw_explanation(folder, explanation)


def _show(explanation: "Explanation", folder: Path, drawn: list[Path], as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(folder), **explanation.as_record(), "figures": [str(path) for path in drawn]})
        return
    from polarcast.hpc.evaluation.shapley.render import explanation_table

    print_text(explanation_table(explanation))
    print_text(f"result {plain(folder / 'explain.json')}; figures {plain(', '.join(path.name for path in drawn))}")

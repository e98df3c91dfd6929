"""The verb `polarcast robustness`."""

from pathlib import Path
from typing import Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.hpc.cli.show import open_board
from polarcast.hpc.utils.console import Json, print_json, print_text, split_names


def robustness(
    suite: Annotated[Path, typer.Argument(help="Folder of a finished suite, such as runs/demo.")],
    archive: Annotated[
        Path | None, typer.Option(help="Score on all events of this archive instead of the suite's test split.")
    ] = None,
    models: Annotated[str | None, typer.Option(help="Models, such as unet,unet_degraded; all by default.")] = None,
    scores: Annotated[
        list[str] | None, typer.Option(help="Score such as csi@threshold=10; repeatable. By default by task.")
    ] = None,
    perturb: Annotated[
        list[str] | None,
        typer.Option(help="Perturbation and levels: LOW:HIGH:STEP, or a list; repeatable. All by default."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Number of processes.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; robustness in SUITE or SUITE/on/ARCHIVE by default.")
    ] = None,
    as_json: bool = Json,
) -> None:
    """Score a suite's runs under perturbed radar input, and find where the gain from dual-pol is gone.

    Both arms see the same perturbation; what they are scored against stays.

    Records are kept with the runs: a stopped command continues, and further levels are added.

    In dB: zdr_bias, zh_bias; in pixels: kdp_smoothing, resolution; shares: attenuation, blockage; a factor: noise.

    What is lost: lost=zdr, lost_height=1. All are described in docs/guides/robustness.md.

    Example: polarcast robustness runs/demo --models unet --perturb zdr_bias=-0.5:0.5:0.25 --perturb noise=1,2,4

    Example: polarcast robustness runs/demo --perturb lost=zdr --perturb zdr_bias=0.3,noise=2

    Example: polarcast robustness runs/demo --archive real --perturb zdr_bias=-0.4:0.4:0.2
    """
    if not (suite / SUITE_FILE).is_file():
        raise BadInput("not a suite", suite, "make one with: polarcast bench demo")
    from polarcast.hpc.bench.cells import SuiteFolder, cells_of
    from polarcast.hpc.bench.rescore import saved_suite
    from polarcast.hpc.bench.robustness.render import terminal_table
    from polarcast.hpc.bench.robustness.result import as_record
    from polarcast.hpc.bench.robustness.run import robustness_of
    from polarcast.hpc.bench.robustness.spec import RobustnessSpec, parse_series
    from polarcast.hpc.bench.run import default_workers
    from polarcast.hpc.evaluation.degraded import FOLDER

    spec = RobustnessSpec(split_names(models), scores or [], parse_series(perturb or []))
    saved = saved_suite(suite)
    folder = SuiteFolder(suite, saved.data)
    with open_board() as board:
        chosen = workers or default_workers(cells_of(saved, folder.shards))
        result = robustness_of(saved, folder, spec, board, chosen, out, archive)
    if as_json:
        print_json(as_record(result))
        return
    print_text(terminal_table(result))
    place = suite / "on" / archive.resolve().name if archive else suite
    print_text(f"table, numbers and figures: {out or place / FOLDER}")

"""The verb `polarcast estimate`."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polarcast.hpc.utils.console import Json, positive, print_json, print_text
from polarcast.hpc.utils.exit_codes import FAILED

if TYPE_CHECKING:
    from rich.console import Group

_PARTS = ("weights", "gradients", "optimizer", "average", "activations", "total")


def estimate(
    source: Annotated[
        str, typer.Argument(metavar="PRESET|SUITE|FILE", help="demo, standard, paper, a suite, or a YAML file.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    size: Annotated[int, typer.Option(min=1, max=65_536, help="Pixels per side.")] = 256,
    gpu_gib: Annotated[float, typer.Option(help="Usable memory of one GPU, in GiB.")] = 72.0,
    tflops: Annotated[float, typer.Option(help="Speed of one GPU on such a model, in TFLOP/s.")] = 50.0,
    cluster: Annotated[
        str | None, typer.Option(help="Estimate a suite on a cluster, by a built-in profile or a YAML file.")
    ] = None,
    as_json: bool = Json,
) -> None:
    """Estimate the parameters, FLOPs, memory by ZeRO stage, reads and GPU-hours of a run, or what a suite takes.

    With --cluster, it is a suite: GPUs, memory and hours of its cells, disk, and what can't fit. So is a name that no
    preset has, and a file with models.

    Example: polarcast estimate paper --gpu-gib 36 --tflops 40

    Example: polarcast estimate standard --cluster gpu
    """
    from polarcast.hpc.config.load import load_config

    positive(gpu_gib, "--gpu-gib")
    positive(tflops, "--tflops")
    if cluster or _is_suite(source):
        _estimate_suite(source, overrides or [], cluster or "gpu", gpu_gib, tflops, as_json)
        return
    config = load_config(source, overrides or [])
    from polarcast.hpc.config.resolve import resolve
    from polarcast.hpc.training.estimate import estimate as estimate_run

    result = estimate_run(resolve(config), (size, size), gpu_gib, tflops)
    if as_json:
        print_json(result)
    else:
        print_text(_render(result, gpu_gib, tflops))


def _is_suite(source: str) -> bool:
    """Whether a source is a suite only: a built-in one that shares its name with no preset, or a file with models."""
    from polarcast.hpc.utils.sources import PRESETS, SUITES

    if Path(source).suffix not in (".yaml", ".yml"):
        return (SUITES / f"{source}.yaml").is_file() and not (PRESETS / f"{source}.yaml").is_file()
    with suppress(OSError, UnicodeDecodeError):
        return any(line.startswith("models:") for line in Path(source).read_text("utf-8").splitlines())
    return False


def _estimate_suite(
    source: str, overrides: list[str], cluster: str, gpu_gib: float, tflops: float, as_json: bool
) -> None:
    """Estimate a suite on a cluster; exit with 1 if it can't fit."""
    from polarcast.data.errors import BadInput
    from polarcast.hpc.bench.cells import SuiteFolder, cells_of
    from polarcast.hpc.bench.cluster import estimate as of_suite
    from polarcast.hpc.bench.suite import load_suite
    from polarcast.hpc.cli.cluster import profile_limits
    from polarcast.hpc.cli.submit import slurm_errors
    from polarcast.slurm.profile import load_profile

    if overrides:
        raise BadInput("a suite has no overrides", overrides[0], "change its file")
    with slurm_errors():
        limits = profile_limits(load_profile(cluster))
    suite = load_suite(source)
    folder = SuiteFolder(Path("runs") / suite.name, suite.data)
    cells = cells_of(suite, folder.shards)
    result = of_suite.estimate_suite(suite, folder, cells, limits, gpu_gib, tflops)
    print_json(of_suite.as_record(result)) if as_json else print_text(of_suite.render(result, cluster, limits["time"]))
    if result.problems:
        raise typer.Exit(FAILED)


def _render(result: dict[str, Any], gpu_gib: float, tflops: float) -> "Group":
    """Return the estimate as a table and lines of text."""
    from rich.console import Group
    from rich.table import Table

    fit, counted = result["fit"], result["counted"]
    table = Table(
        title=f"GiB on each of {result['stages_gpus']} GPUs, micro-batch {result['stages_micro_batch']}, fp32"
    )
    for column in ("ZeRO stage", *_PARTS):
        table.add_column(column, justify="right")
    for stage, memory in result["stages"].items():
        table.add_row(str(stage), *(f"{memory[part] / 2**30:.3g}" for part in _PARTS))
    return Group(
        f"{counted['parameters']:,} parameters; {result['flops_per_step'] / 1e12:.3g} TFLOP per step",
        table,
        _fit(fit, gpu_gib),
        f"at {tflops:g} TFLOP/s per GPU: {result['gpu_hours']:.3g} GPU-hours, "
        f"{result['reads_gb_per_second']:.3g} GB/s from the shards",
    )


def _fit(fit: dict[str, Any] | None, gpu_gib: float) -> str:
    if fit is None:
        return f"does not fit {gpu_gib:g} GiB for any divisor of train.global_batch — raise it, or use a smaller model"
    needed = fit["memory"]
    used = sum(needed[part] for part in _PARTS[:-1]) / 2**30
    return (
        f"fits {gpu_gib:g} GiB on {fit['gpus']} GPU{'s' * (fit['gpus'] > 1)} at stage {fit['stage']}, "
        f"micro-batch {fit['micro_batch']} ({used:.3g} GiB): "
        f"train.zero_stage={fit['stage']} train.micro_batch={fit['micro_batch']}"
    )

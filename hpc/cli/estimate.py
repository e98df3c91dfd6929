"""The verb `polarcast estimate`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from polarcast.hpc.utils.console import Json, print_json, print_text

if TYPE_CHECKING:
    from rich.console import Group

_PARTS = ("weights", "gradients", "optimizer", "average", "activations", "total")


def estimate(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="demo, standard, paper, or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 256,
    gpu_gib: Annotated[float, typer.Option(help="Memory of one GPU that may be filled.")] = 72.0,
    tflops: Annotated[float, typer.Option(help="What one GPU reaches on such a model, in TFLOP/s.")] = 50.0,
    as_json: bool = Json,
) -> None:
    """Parameters, FLOPs, memory by ZeRO stage, reads and GPU-hours of a run, before it starts.

    Example: polarcast estimate paper --gpu-gib 36 --tflops 40
    """
    from polarcast.hpc.config.load import load_config
    from polarcast.hpc.config.resolve import resolve
    from polarcast.hpc.training.estimate import estimate as told_of

    told = told_of(resolve(load_config(source, overrides or [])), (size, size), gpu_gib, tflops)
    if as_json:
        print_json(told)
    else:
        print_text(_render(told, gpu_gib, tflops))


def _render(told: dict[str, Any], gpu_gib: float, tflops: float) -> "Group":
    """Return the estimate as a table and a few sentences."""
    from rich.console import Group
    from rich.table import Table

    fit, counted = told["fit"], told["counted"]
    table = Table(title=f"GiB on each of {told['stages_gpus']} GPUs, micro-batch {told['stages_micro_batch']}, fp32")
    for column in ("ZeRO stage", *_PARTS):
        table.add_column(column, justify="right")
    for stage, memory in told["stages"].items():
        table.add_row(str(stage), *(f"{memory[part] / 2**30:.3g}" for part in _PARTS))
    return Group(
        f"{counted['parameters']:,} parameters; {told['flops_per_step'] / 1e12:.3g} TFLOP a step",
        table,
        _fit(fit, gpu_gib),
        f"at {tflops:g} TFLOP/s a GPU: {told['gpu_hours']:.3g} GPU-hours, "
        f"{told['reads_gb_per_second']:.3g} GB/s from the shards",
    )


def _fit(fit: dict[str, Any] | None, gpu_gib: float) -> str:
    if fit is None:
        return f"does not fit {gpu_gib:g} GiB on any divisor of train.global_batch: raise it, or take a smaller model"
    needed = fit["memory"]
    used = sum(needed[part] for part in _PARTS[:-1]) / 2**30
    return (
        f"fits {gpu_gib:g} GiB on {fit['gpus']} GPU{'s' * (fit['gpus'] > 1)} at stage {fit['stage']}, "
        f"micro-batch {fit['micro_batch']} ({used:.3g} GiB): "
        f"train.zero_stage={fit['stage']} train.micro_batch={fit['micro_batch']}"
    )

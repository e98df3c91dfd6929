"""The verb `polarcast estimate`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from polarcast.hpc.utils.console import Json, positive, print_json, print_text

if TYPE_CHECKING:
    from rich.console import Group

_PARTS = ("weights", "gradients", "optimizer", "average", "activations", "total")


def estimate(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="demo, standard, paper, or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    size: Annotated[int, typer.Option(min=1, max=65_536, help="Pixels per side.")] = 256,
    gpu_gib: Annotated[float, typer.Option(help="Usable memory of one GPU, in GiB.")] = 72.0,
    tflops: Annotated[float, typer.Option(help="Speed of one GPU on such a model, in TFLOP/s.")] = 50.0,
    as_json: bool = Json,
) -> None:
    """Estimate the parameters, FLOPs, memory by ZeRO stage, reads and GPU-hours of a run.

    Example: polarcast estimate paper --gpu-gib 36 --tflops 40
    """
    from polarcast.hpc.config.load import load_config

    positive(gpu_gib, "--gpu-gib")
    positive(tflops, "--tflops")
    config = load_config(source, overrides or [])
    from polarcast.hpc.config.resolve import resolve
    from polarcast.hpc.training.estimate import estimate as estimate_run

    result = estimate_run(resolve(config), (size, size), gpu_gib, tflops)
    if as_json:
        print_json(result)
    else:
        print_text(_render(result, gpu_gib, tflops))


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

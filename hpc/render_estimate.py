"""An estimate as a table and a few sentences."""

from typing import Any

from rich.console import Group
from rich.table import Table

_PARTS = ("weights", "gradients", "optimizer", "average", "activations", "total")


def render(told: dict[str, Any], gpu_gib: float, tflops: float) -> Group:
    """For the terminal."""
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

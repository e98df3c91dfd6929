"""Time and memory of forecasts of one frame, compared with a hand-written loop over the bare network."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import ResolvedConfig, resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, device_of, set_up_torch
from polarcast.hpc.perf.measure import Measured, PerfRow, Run, interleaved, machine, ratio
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.estimate import example_batch
from polarcast.models.common.rain import MOST_MMH
from polarcast.models.diffusion.conditional import Diffusion
from polarcast.models.forecaster import Forecaster
from polarcast.models.qpe.unet import UNet

Work = Callable[[], Tensor]
OURS, PLAIN = "polarcast", "plain torch"


def measure_inference(
    config: RunConfig, size: int, members: int, rounds: int, on_round: Callable[[int], None] | None = None
) -> Measured:
    """Measure a U-Net's estimate of one frame and an ensemble of a diffusion of equal widths, with untrained weights.

    Args:
        config: Configuration of the U-Net; the diffusion uses its arm, heights and widths.
        size: Pixels per side.
        members: Ensemble size.
        rounds: Measured rounds, after one warm-up round.
        on_round: Called with the number of rounds done.
    """
    set_up_torch(config.train.threads, World())
    works = _works(config, size, members)
    with torch.no_grad():
        peaks = [PerfRow(f"memory, {name}", peak, "MiB", peak, peak) for name, peak in _peaks(works)]
        rows = interleaved({name: _run(work) for name, work in works.items()}, rounds, "frames/s", on_round)
    tasks = {name.partition(", ")[2] for name in works}
    ratios = {f"time of {OURS} / {PLAIN}, {task}": ratio(rows, f"{PLAIN}, {task}", f"{OURS}, {task}") for task in tasks}
    notes = {"network": f"widths {config.model['widths']}, {size} × {size} pixels, {device_of(World())}"}
    return Measured("inference", machine(), [*rows, *peaks], dict(sorted(ratios.items())), notes)


def _works(config: RunConfig, size: int, members: int) -> dict[str, Work]:
    device = device_of(World())
    resolved = resolve(config)
    batch = example_batch(resolved.inputs, (size, size)).to(device)
    batch = replace(batch, radar=torch.rand_like(batch.radar) * 50)
    unet = _ready(resolved)
    diffusion = load_config({**config.to_dict(), "model": {"name": "diffusion"}}, _widths(config))
    ensemble = _ready(resolve(diffusion))
    assert isinstance(unet, UNet)
    assert isinstance(ensemble, Diffusion)
    scaled, several = ensemble.radar(batch), f"{members} members, {ensemble.evaluations} evaluations each"
    return {
        f"{OURS}, U-Net": lambda: unet.forecast(batch),
        f"{PLAIN}, U-Net": lambda: unet.net(scaled).expm1().clamp(0, MOST_MMH),
        f"{OURS}, {several}": lambda: ensemble.forecast(batch, members),
        f"{PLAIN}, {several}": lambda: _by_hand(ensemble, scaled, members),
    }


def _widths(config: RunConfig) -> dict[str, object]:
    return {"model": {"name": "diffusion", "widths": config.model["widths"]}}


def _ready(resolved: ResolvedConfig) -> Forecaster:
    return build_model(resolved).to(device_of(World())).eval()


def _by_hand(model: Diffusion, scaled: Tensor, members: int) -> Tensor:
    """Sample as in the examples of diffusers, with the same number of evaluations of the network."""
    from diffusers import DPMSolverMultistepScheduler

    samples = []
    for _ in range(members):
        # Any, because a decorator hides the class's methods from type checkers.
        solver: Any = DPMSolverMultistepScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2")
        solver.set_timesteps(model.evaluations)
        x = torch.randn(len(scaled), 1, *scaled.shape[-2:], device=scaled.device)
        kept = torch.ones(len(scaled), device=scaled.device)
        for time in solver.timesteps:
            output = model.denoising.net(x, scaled, kept * (time / 1000), kept)
            x = solver.step(output, time, x).prev_sample
        samples.append(x.expm1().clamp(0, MOST_MMH))
    return torch.stack(samples, 1)


def _run(work: Work) -> Run:
    def once() -> float:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return 1.0

    return once


def _peaks(works: dict[str, Work]) -> list[tuple[str, float]]:
    """Return the peak memory of each in MiB, above the memory in use before it."""
    found = []
    for name, work in works.items():
        work()  # warm up, to exclude memory that is allocated only once
        gc.collect()
        found.append((name, (_on_gpu if torch.cuda.is_available() else _on_host)(work) / 2**20))
    return found


def _on_gpu(work: Work) -> int:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before


def _on_host(work: Work) -> int:
    # Reset the peak of resident memory (Linux).
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _status("VmRSS")
    work()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    """Return a memory field of this process in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    [line] = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024

"""The verbs of `polarcast perf`."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.data.cores import usable_cores
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.hpc.cli.checks import Trust, checked_run
from polarcast.hpc.utils.console import Json, positive, print_json, print_text, progress

if TYPE_CHECKING:
    from polarcast.hpc.perf.measure import Measured, PerfRow

app = typer.Typer(help="Measure speed, compared with other software.", no_args_is_help=True)

Rounds = Annotated[int, typer.Option(min=1, max=10_000, help="Measured rounds, after one warm-up round.")]
Size = Annotated[int, typer.Option(min=16, max=8192, help="Pixels per side.")]
Steps = Annotated[int, typer.Option(min=1, max=10_000, help="Steps of each contender in each round.")]
Members = Annotated[int, typer.Option(min=1, max=1000, help="Ensemble size.")]
Processes = Annotated[
    int, typer.Option(min=1, max=1024, help="Processes on this machine; torchrun and srun start their own.")
]
Busy = Annotated[
    int, typer.Option(min=0, max=1024, help="Spinning neighbor processes; tables show idle and busy side by side.")
]
Folder = Annotated[Path | None, typer.Option(help="Folder for temporary data; the system's by default.")]


@app.command()
def loader(
    rounds: Rounds = 7,
    size: Size = 256,
    folder: Folder = None,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Include litdata and MosaicML Streaming, in an environment created for them."),
    ] = False,
    busy: Busy = 0,
    as_json: bool = Json,
) -> None:
    """Measure loading of nowcasting batches: mapped shards, a plain copy and other libraries; start-up and memory.

    Example: polarcast perf loader --peers --folder /local/nvme
    """
    with _scratch(folder) as where, progress("rounds", rounds) as done:
        from polarcast.hpc.perf.loader import measure_loader
        from polarcast.hpc.perf.spec import LoaderSpec

        measured = measure_loader(where, LoaderSpec(size=size), rounds, done, peers, busy)
    _show(measured, as_json)


@app.command()
def writer(
    rounds: Rounds = 5,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Number of processes; all cores by default.")
    ] = None,
    folder: Folder = None,
    as_json: bool = Json,
) -> None:
    """Measure packing of an archive into shards, compared with plain tar of the same bytes.

    Example: polarcast perf writer --folder /local/nvme
    """
    processes = workers or usable_cores()
    with _scratch(folder) as where, progress("rounds", rounds) as done:
        from polarcast.hpc.perf.writer import WriterSpec, measure_writer

        measured = measure_writer(where, WriterSpec(), rounds, processes, done)
    _show(measured, as_json)


@app.command()
def step(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="Configuration of the network.")] = "demo",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    size: Size = 64,
    steps: Steps = 4,
    rounds: Rounds = 15,
    processes: Processes = 1,
    busy: Busy = 0,
    as_json: bool = Json,
) -> None:
    """Measure optimizer steps: DeepSpeed's stages, DDP and torch alone; device utilization; waiting for data.

    Example: polarcast perf step standard --size 128 --processes 2
    """
    options = [f"--size={size}", f"--steps={steps}", f"--rounds={rounds}", f"--busy={busy}", *["--json"] * as_json]
    from polarcast.hpc.config.load import load_config
    from polarcast.hpc.distributed.world import detect

    config = load_config(source, overrides or [])
    if _launched(["perf", "step", source, *(overrides or []), *options], processes):
        return
    from polarcast.hpc.perf.step import measure_step

    world = detect()
    with progress("rounds", rounds, world.is_first) as done:
        measured = measure_step(config, size, steps, rounds, world, done, busy)
    if world.is_first:
        _show(measured, as_json)


@app.command()
def together(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="Configuration of the network.")] = "demo",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    nets: Annotated[list[int] | None, typer.Option(min=1, max=1024, help="Number of nets; 1, 4, 8, 16.")] = None,
    size: Size = 32,
    steps: Steps = 2,
    rounds: Rounds = 5,
    as_json: bool = Json,
) -> None:
    """Measure steps of several nets of one architecture at once, as in `bench --together`, beside those of one net.

    Example: polarcast perf together demo --nets 8 --nets 32
    """
    from polarcast.hpc.config.load import load_config

    config = load_config(source, overrides or [])
    from polarcast.hpc.perf.together import measure_together

    with progress("rounds", rounds) as done:
        measured = measure_together(config, size, nets or (1, 4, 8, 16), steps, rounds, done)
    _show(measured, as_json)


@app.command()
def scaling(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="Configuration of the network.")] = "demo",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    size: Size = 64,
    steps: Steps = 4,
    rounds: Rounds = 9,
    processes: Processes = 2,
    latency_us: Annotated[float, typer.Option(help="Latency of a message on the modeled machine, in µs.")] = 10.0,
    gb_per_s: Annotated[float, typer.Option(help="Bandwidth of each of its GPUs, in GB/s.")] = 25.0,
    tflops: Annotated[float, typer.Option(help="Speed of each of its GPUs on such a model, in TFLOP/s.")] = 50.0,
    as_json: bool = Json,
) -> None:
    """Measure strong and weak scaling on the available processes; model it up to 1,024 GPUs.

    Example: polarcast perf scaling paper --size 256 --gb-per-s 12.5 --tflops 40
    """
    from polarcast.hpc.distributed.world import detect

    if processes == 1 and detect().size == 1:
        raise BadInput("scaling needs several processes", "--processes", "give 2 or more")
    for option, value in (("--latency-us", latency_us or 1), ("--gb-per-s", gb_per_s), ("--tflops", tflops)):
        positive(value, option)
    model = [f"--latency-us={latency_us}", f"--gb-per-s={gb_per_s}", f"--tflops={tflops}"]
    options = [f"--size={size}", f"--steps={steps}", f"--rounds={rounds}", *model, *["--json"] * as_json]
    from polarcast.hpc.config.load import load_config

    config = load_config(source, overrides or [])
    if _launched(["perf", "scaling", source, *(overrides or []), *options], processes):
        return
    from polarcast.hpc.perf.network_model import Network
    from polarcast.hpc.perf.scaling import measure_scaling

    world = detect()
    network = Network(latency_us / 1e6, gb_per_s * 1e9)
    with progress("rounds", rounds, world.is_first) as done:
        measured = measure_scaling(config, size, steps, rounds, world, network, tflops, done)
    if world.is_first:
        _show(measured, as_json)


@app.command()
def scores(
    size: Size = 256,
    leads: Annotated[int, typer.Option(min=1, max=1000, help="Number of frames.")] = 10,
    rounds: Rounds = 5,
    busy: Busy = 0,
    as_json: bool = Json,
) -> None:
    """Measure FSS and multi-event contingency tables over 11 windows × 6 thresholds, compared with pysteps and scores.

    Requires both: pip install 'polarcast\\[nowcast]' scores

    Example: polarcast perf scores --rounds 9 --busy 1
    """
    from polarcast.hpc.perf.scores import measure_scores

    with progress("rounds", rounds) as done:
        measured = measure_scores(size, leads, rounds, done, busy)
    _show(measured, as_json)


@app.command()
def sampler(
    run: Annotated[Path, typer.Argument(help="Run folder of a trained diffusion.")],
    members: Members = 8,
    windows: Annotated[int, typer.Option(min=1, help="Number of validation windows.")] = 64,
    trust: Trust = False,
    as_json: bool = Json,
) -> None:
    """Measure skill by network evaluations: ddim, dpm and heun with few steps, compared with 100 steps of ddim.

    Example: polarcast perf sampler runs/demo/cells/diffusion-dualpol-s0-…
    """
    checked_run(run)
    from polarcast.hpc.perf.sampler import SETTINGS, measure_sampler
    from polarcast.hpc.runs.folder import RunFolder

    with progress("samplers", len(SETTINGS) + 1) as done:
        measured = measure_sampler(RunFolder(run, trust), members, windows, done)
    _show(measured, as_json)


@app.command()
def inference(
    source: Annotated[
        str, typer.Argument(metavar="PRESET|FILE", help="Configuration of the U-Net; the diffusion uses its widths.")
    ] = "demo",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    size: Size = 256,
    members: Members = 8,
    rounds: Rounds = 7,
    as_json: bool = Json,
) -> None:
    """Measure time and memory of one U-Net estimate and one diffusion ensemble, compared with plain torch.

    Example: polarcast perf inference demo train.threads=2 --members 8
    """
    from polarcast.hpc.config.load import load_config
    from polarcast.hpc.perf.inference import measure_inference

    config = load_config(source, overrides or [])
    with progress("rounds", rounds) as done:
        measured = measure_inference(config, size, members, rounds, done)
    _show(measured, as_json)


@app.command()
def explain(
    source: Annotated[
        str, typer.Argument(metavar="PRESET|FILE", help="Configuration of a QPE model without random numbers.")
    ] = "demo",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    size: Size = 32,
    background: Annotated[int, typer.Option(min=1, max=1000, help="Windows that absent channels are taken from.")] = 4,
    rounds: Rounds = 5,
    as_json: bool = Json,
) -> None:
    """Measure exact Shapley values of all pixels, compared with shap, captum and shapiq, for the same answer.

    Requires them: pip install shap captum shapiq

    captum makes 67 times as many forecasts as shap, which takes minutes for large networks.

    Example: polarcast perf explain demo --size 64 --rounds 9
    """
    from polarcast.hpc.config.load import load_config

    config = load_config(source, overrides or [])
    from polarcast.hpc.perf.explain import measure_explain

    with progress("rounds", rounds) as done:
        measured = measure_explain(config, size, background, rounds, done)
    _show(measured, as_json)


@contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    """Make a temporary folder inside a folder of the user, or of the system; delete it afterwards."""
    if folder and not folder.is_dir():
        raise BadInput("no such folder", folder, "make it first, or choose another one")
    if folder:
        checked_output(folder, is_folder=True)
    with tempfile.TemporaryDirectory(prefix="polarcast-perf-", dir=folder) as made:
        yield Path(made)


def _launched(arguments: list[str], processes: int) -> bool:
    """Start the same verb on several processes; return False if this process should run it."""
    from polarcast.hpc.distributed.launch import end_with_launcher, launch_local
    from polarcast.hpc.distributed.world import one_gpu_each, visible_gpus

    end_with_launcher()
    if processes == 1 or "RANK" in os.environ:
        return False
    one_gpu_each(processes, visible_gpus(), "--processes")
    launch_local(arguments, processes)
    return True


def _show(measured: "Measured", as_json: bool) -> None:
    if as_json:
        print_json(measured.as_record())
        return
    from rich.table import Table

    table = Table(title=f"perf {measured.perf}, {measured.machine['cores']} cores")
    beside = f"beside {measured.neighbors} busy"
    for column in ("contender", "median", "quartiles", *([beside, "quartiles"] if measured.neighbors else [])):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for row in measured.rows:
        cells = [cell for half in (row, row.busy) if half for cell in _cells(half)]
        table.add_row(row.name, *cells)
    print_text(table)
    for name, value in measured.ratios.items():
        also = f", {measured.busy_ratios[name]:.2f} {beside}" if name in measured.busy_ratios else ""
        print_text(f"{name}: {value:.2f}{also}")
    for name, value in measured.busy_ratios.items():
        if name not in measured.ratios:  # another contender of the same library was the fastest
            print_text(f"{name}: {value:.2f} {beside}")
    for name, text in measured.notes.items():
        print_text(f"{name}: {text}")


@app.command()
def gpu(
    out: Annotated[Path | None, typer.Option(help="Folder for the table, perf-gpu.json; no file by default.")] = None,
    steps: Steps = 20,
    rounds: Rounds = 5,
    cpu: Annotated[bool, typer.Option("--cpu", help="Try the command with tiny networks on the CPU.")] = False,
    as_json: bool = Json,
) -> None:
    """Measure training on one GPU: step time with and without CUDA graphs, MFU, waiting for data, nets together.

    Example: polarcast perf gpu --out perf
    """
    if out:
        checked_output(out, is_folder=True)
    from polarcast.hpc.perf.gpu import PAPER_CASES, measure_gpu

    with progress("rounds", (rounds + 1) * len(PAPER_CASES)) as done:
        found = measure_gpu(steps, rounds, out, cpu, done)
    if as_json:
        print_json(found)
        return
    from polarcast.hpc.perf.gpu_table import gpu_table

    print_text(gpu_table(found))


def _cells(row: "PerfRow") -> tuple[str, str]:
    return f"{row.value:.3g} {row.unit}", f"{row.low:.3g} … {row.high:.3g}"

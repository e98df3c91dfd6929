"""GPU results match the CPU; GPU-only features."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.loading.buffers import Recycler
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, set_up_torch
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.sums import score_fields
from polarcast.hpc.training.backends.graphed import GRAPHS
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.estimate import example_batch
from polarcast.hpc.training.micro_batch import choose_micro_batch
from polarcast.hpc.training.staging import Stager
from polarcast.hpc.training.train import train
from polarcast.models.forecaster import Forecaster
from polarcast.models.qpe.unet import UNet
from tests.support import segments
from tests.support.fields import PAIRS

pytestmark = pytest.mark.gpu
NETS: dict[str, dict[str, Any]] = {
    "furenet": {"widths": [8, 16, 24, 32], "squeeze": 4, "attention": True},
    "furenet_advected": {"widths": [8, 16, 24, 32], "squeeze": 4},
    "bagging": {"widths": [8, 16, 24, 32], "squeeze": 4},
    "simvp": {"widths": [16, 32], "halvings": 2, "depth": 2},
    "convgru": {"widths": [8, 16, 24]},
    "persistence": {},
    "extrapolation": {},
}


def nowcasting(name: str) -> RunConfig:
    values = {"task": "nowcast", "arm": "dualpol", "match_params": False, "model": {"name": name, **NETS[name]}}
    return load_config("demo", {**values, "data": {"heights_km": [3.0]}})


def estimating(shards: Manifest, **changes: object) -> RunConfig:
    values = {"match_params": False, "model": {"widths": [4, 8]}, "data": {"shards": str(shards.folder)}}
    return load_config("demo", {**values, "train": {"threads": 1, **changes}})


def storm(config: RunConfig) -> Batch:
    """Two windows of one cell that grows and moves by two pixels per frame, 64 × 64."""
    t = torch.arange(config.frames + config.lead_frames)[:, None, None]
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    echo = (40 + t - ((x - 12 - 2 * t) ** 2 + (y - 30) ** 2) / 8.0).clamp(min=0).expand(2, -1, -1, -1)
    past, future = echo[:, : config.frames, None, None], echo[:, config.frames :, None]
    number = torch.arange(2)
    radar = torch.cat([past, past / 20, past / 40], 2)
    return Batch(radar, None, number, number, config.variables(), (3.0,), target_zh=future, last_zh=past[:, -1, 0])


@pytest.fixture(autouse=True)
def _as_in_a_run() -> None:
    set_up_torch(1, World())


def made(config: RunConfig) -> Forecaster:
    torch.manual_seed(0)
    return build_model(resolve(config)).eval()


@pytest.mark.parametrize("name", NETS)
def test_nowcasts_on_the_gpu_match_the_cpu(name: str) -> None:
    config = nowcasting(name)
    batch, model = storm(config), made(config)
    with torch.inference_mode():
        on_gpu = model.to("cuda").forecast(batch.to("cuda"))
        on_cpu = model.to("cpu").forecast(batch.to("cpu"))
    assert on_gpu.is_cuda
    assert (on_cpu - on_gpu.cpu()).abs().max() < 0.02  # dBZ


@pytest.mark.parametrize("pair", PAIRS)
def test_scores_on_the_gpu_match_the_cpu(pair: str) -> None:
    forecast, observed = PAIRS[pair]
    protocol = Protocol(unit="mm/h", shape=(32, 32))
    on_cpu = score_fields(forecast[:, None], observed, protocol)
    on_gpu = score_fields(forecast[:, None].to("cuda"), observed.to("cuda"), protocol)
    assert set(on_cpu) == set(on_gpu)
    for name, sums in on_cpu.items():
        torch.testing.assert_close(on_gpu[name].cpu(), sums, rtol=1e-4, atol=1e-4, equal_nan=True, msg=name)


@pytest.fixture(scope="module")
def on_cpu(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Uninterrupted run on the CPU."""
    run = RunFolder(tmp_path_factory.mktemp("cpu"))
    on_the_cpu(shards, run.path, 99)
    return run


def on_the_cpu(shards: Manifest, folder: Path, *piece: object) -> None:
    # Skip DeepSpeed's teardown, which may abort.
    script = "import os, sys, segments; segments.main(*sys.argv[1:]); os._exit(0)"
    command = [sys.executable, "-c", script, str(shards.folder), str(folder), json.dumps(piece)]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=hidden)
    assert done.returncode == 0, done.stderr


EXACT = "train.precision=fp32"
WAYS = [["train.engine=ddp"], *([f"train.zero_stage={n}"] for n in range(4))]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_training_on_the_gpu_matches_the_cpu(
    shards: Manifest, tmp_path: Path, on_cpu: RunFolder, way: list[str]
) -> None:
    segments.assert_like(segments.run_piece(str(shards.folder), str(tmp_path), [EXACT, *way]), on_cpu, 2e-3)


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_run_moves_between_gpu_and_cpu(shards: Manifest, tmp_path: Path, on_cpu: RunFolder, way: list[str]) -> None:
    def piece(until: int) -> str:
        return json.dumps([until, EXACT, *way])

    segments.main(str(shards.folder), str(tmp_path), piece(5))
    on_the_cpu(shards, tmp_path, 9, EXACT, *way)
    segments.main(str(shards.folder), str(tmp_path), piece(99))
    run = RunFolder(tmp_path)
    assert [r["step"] for r in run.records() if r["event"] == "start"] == [0, 4, 8]
    segments.assert_like(run, on_cpu, 2e-3)


def test_gpu_uses_bfloat16_by_default(shards: Manifest) -> None:
    kinds = {}
    for precision in ("auto", "fp32"):
        config = estimating(shards, precision=precision, engine="ddp")
        model = build_model(resolve(config))
        convolution = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
        convolution.register_forward_hook(lambda _m, _i, out, p=precision: kinds.update({p: out.dtype}))
        engine = Engine(model, config.train, World(), config.train.global_batch)
        engine.step([example_batch(resolve(config).inputs, (32, 32), config.train.global_batch)], 1e-3)
    assert kinds == {"auto": torch.bfloat16, "fp32": torch.float32}


def test_auto_micro_batch_is_found_on_the_gpu(shards: Manifest) -> None:
    config = estimating(shards, micro_batch="auto", global_batch=12)
    assert choose_micro_batch(resolve(config), shards, World()) == 12


def test_buffer_is_not_reused_during_its_copy() -> None:
    recycler = Recycler()
    first = recycler.take((1000, 1000))
    first.fill(1)
    host = torch.from_numpy(first)
    place = first.ctypes.data
    torch.cuda._sleep(200_000_000)  # delays the copy by about 0.1 s
    there = host.to("cuda", non_blocking=True)
    del host, first
    second = recycler.take((1000, 1000))
    second.fill(2)
    assert second.ctypes.data != place
    torch.cuda.synchronize()
    assert (there == 1).all()
    assert recycler.take((1000, 1000)).ctypes.data == place


@pytest.mark.skipif("torch.cuda.device_count() != 1")
def test_more_processes_than_gpus_are_rejected(shards: Manifest, tmp_path: Path) -> None:
    command = ["train", "demo", f"data.shards={shards.folder}", "--processes", "2", "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "polarcast.hpc.cli", *command], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--processes: 2 processes can't share 1 GPU" in done.stderr
    assert not (tmp_path / "run").exists()


GRAPHED: dict[str, dict[str, Any]] = {
    "unet": {"widths": [8, 16]},
    "wf_unet": {"widths": [8, 16]},
    "diffusion": {"widths": [8, 16]},
    "combined_diffusion": {"widths": [8, 16]},
    "autoencoder": {"widths": [8, 16]},
    **{name: NETS[name] for name in ("furenet", "furenet_advected", "bagging", "simvp", "convgru")},
}


def trainable(name: str, **train: object) -> RunConfig:
    common = {"match_params": False, "model": {"name": name, **GRAPHED[name]}, "data": {"heights_km": [3.0]}}
    task = {"task": "nowcast"} if name in NETS else {}
    settings = {"global_batch": 4, "micro_batch": 2, "precision": "fp32", "average_decay": 0.9, **train}
    return load_config("demo", {**common, **task, "train": settings})


def losses_of(config: RunConfig, wait: bool = True) -> tuple[str, list[float]]:
    resolved = resolve(config)
    engine = Engine(build_model(resolved), config.train, World(), 2)
    losses = []
    for step in range(6):
        torch.manual_seed(step)
        batches = [example_batch(resolved.inputs, (32, 32), 2).map(lambda f: 30 * torch.rand(f.shape)) for _ in "ab"]
        staged = [engine.stager.stage(replace(b, sample_index=torch.arange(2) + 2 * step)) for b in batches]
        losses.append(engine.step([engine.stager.take(batch) for batch in staged], 1e-3 / (step + 1), wait))
    engine.settle()
    return engine.mode, losses


@pytest.mark.parametrize("name", GRAPHED)
def test_steps_as_cuda_graphs_match_plain_ones(name: str) -> None:
    mode, graphed = losses_of(trainable(name))
    plain_mode, plain = losses_of(trainable(name, graphs=False, engine="ddp"))
    assert (mode, plain_mode) == (GRAPHS, "")
    assert graphed == pytest.approx(plain, rel=1e-3)
    assert len(set(graphed)) == len(graphed)


@pytest.mark.parametrize("train", [{"precision": "bf16"}, {"compile": True}], ids=str)
def test_graphs_in_bfloat16_and_compiled_match_plain_steps(train: dict[str, object]) -> None:
    mode, graphed = losses_of(trainable("unet", **train))
    _, plain = losses_of(trainable("unet", graphs=False, engine="ddp", **train))
    assert mode == GRAPHS
    assert graphed == pytest.approx(plain, rel=2e-2)


def test_step_that_waits_for_its_host_runs_kernel_by_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed recording leaves nothing behind: no other stream, no memory that is not used again."""
    _, plain = losses_of(trainable("unet", graphs=False, engine="ddp"))
    whole, stream = UNet.loss, torch.cuda.current_stream()

    def loss(self: UNet, batch: Batch) -> torch.Tensor:
        float(batch.radar.sum())
        return whole(self, batch)

    monkeypatch.setattr(UNet, "loss", loss)
    mode, losses = losses_of(trainable("unet"))
    assert "captur" in mode
    assert losses == pytest.approx(plain, rel=1e-3)
    assert torch.cuda.current_stream() == stream
    other, before = torch.cuda.Stream(), torch.cuda.memory_reserved()
    for _ in range(20):
        torch.cuda.synchronize()
        torch.ones(2**24, device="cuda").record_stream(other)
    assert torch.cuda.memory_reserved() <= before + 4 * 2**26


def test_late_losses_are_those_of_the_steps_before() -> None:
    _, waited = losses_of(trainable("unet"))
    _, late = losses_of(trainable("unet"), wait=False)
    assert late == pytest.approx([waited[0], *waited[:-1]], rel=1e-4)


def test_graphs_resume_from_a_run_without_them(shards: Manifest, tmp_path: Path, on_cpu: RunFolder) -> None:
    def piece(until: int, graphs: bool) -> str:
        return json.dumps([until, EXACT, f"train.graphs={graphs}", "train.engine=ddp"])

    segments.main(str(shards.folder), str(tmp_path), piece(5, False))
    segments.main(str(shards.folder), str(tmp_path), piece(99, True))
    run = RunFolder(tmp_path)
    assert [r["mode"] for r in run.records() if r["event"] == "graphs"] == [GRAPHS]
    segments.assert_like(run, on_cpu, 2e-3)


def test_staged_batches_are_copied_on_another_stream_and_keep_their_memory() -> None:
    stager = Stager(torch.nn.Module(), torch.device("cuda:0"))  # type: ignore[arg-type]
    recycler, number = Recycler(), torch.arange(2)
    for value in range(1, 9):
        host = recycler.take((2, 1, 1, 1, 512, 512))
        host.fill(value)
        batch = Batch(torch.from_numpy(host), None, number, number, ("zh",), (3.0,), random=(torch.ones(2),))
        del host
        staged = stager.stage(batch)
        del batch
        taken = stager.take(staged)
        del staged
        assert taken.radar.dtype == torch.float32
        assert (taken.radar == value).all()


def test_profile_on_the_gpu_has_kernels_and_a_memory_snapshot(shards: Manifest, tmp_path: Path) -> None:
    config = estimating(shards, profile=2, steps=6, validate_every=6, engine="ddp")
    run = RunFolder(tmp_path / "run")
    train(config, run, World())
    names = sorted(path.name for path in (run.path / "profile").iterdir())
    assert names == ["step-00000004-rank-0.json.gz", "step-00000004-rank-0.memory.pickle"]
    (record,) = (r for r in run.records() if r["event"] == "profile")
    assert record["operators"]

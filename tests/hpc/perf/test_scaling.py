"""Properties of the α–β model, and output of the step and scaling benchmarks."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.hpc.perf.measure import peak_by_name
from polarcast.hpc.perf.network_model import Network, all_reduce_seconds, efficiency, fit_network

networks = st.builds(Network, st.floats(1e-7, 1e-3), st.floats(1e8, 1e12))
sizes = st.floats(1.0, 1e10)


@given(networks, sizes, st.integers(1, 10))
def test_time_grows_with_processes_and_bytes(network: Network, size: float, power: int) -> None:
    p = 2**power
    assert all_reduce_seconds(network, p, size) <= all_reduce_seconds(network, 2 * p, size) * (1 + 1e-9)
    assert all_reduce_seconds(network, p, size) <= all_reduce_seconds(network, p, 2 * size)


@given(networks, sizes)
def test_one_process_exchanges_nothing_and_two_send_once(network: Network, size: float) -> None:
    assert all_reduce_seconds(network, 1, size) == 0
    assert all_reduce_seconds(network, 2, size) == pytest.approx(2 * network.latency + size / network.bandwidth)


@given(networks)
def test_large_message_costs_twice_its_bytes(network: Network) -> None:
    size = 1e6 * network.latency * network.bandwidth
    assert all_reduce_seconds(network, 1024, size) == pytest.approx(2 * size / network.bandwidth, rel=0.01)


@given(networks, st.sampled_from([2, 4, 8]))
def test_fit_recovers_the_network(network: Network, processes: int) -> None:
    lengths = [2.0**k for k in range(4, 34, 2)]
    ring = [2 * (processes - 1) * (network.latency + n / processes / network.bandwidth) for n in lengths]
    found = fit_network(lengths, ring, processes)
    assert found.latency == pytest.approx(network.latency, rel=1e-3)
    assert found.bandwidth == pytest.approx(network.bandwidth, rel=1e-3)


@given(st.floats(1e-6, 10), st.floats(0, 10), st.floats(0, 1))
def test_overlap_raises_efficiency_up_to_one(compute: float, exchange: float, overlap: float) -> None:
    assert 0 < efficiency(compute, exchange, 0) <= efficiency(compute, exchange, overlap) <= 1
    assert efficiency(compute, 0, overlap) == 1


def test_unknown_device_has_no_peak() -> None:
    assert peak_by_name("NVIDIA H100 80GB HBM3", bf16=True) == 989e12
    assert peak_by_name("NVIDIA H100 PCIe", bf16=True) == 756e12
    assert peak_by_name("NVIDIA A100-SXM4-40GB", bf16=False) == 19.5e12
    assert peak_by_name("Brand New 9000", bf16=True) is None


def perf(*arguments: str) -> dict:
    command = [sys.executable, "-m", "polarcast.hpc.cli", "perf", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


BRIEF = ["match_params=false", "train.global_batch=4", "--size", "32", "--rounds", "2", "--steps=1"]
SMALL = ["model.widths=[4,8]", *BRIEF]


@pytest.mark.multiprocess
def test_steps_of_every_backend_are_measured_on_two_processes() -> None:
    result = perf("step", "demo", *SMALL, "--processes", "2")
    names = [row["name"] for row in result["rows"]]
    backends = ["torch alone", "DDP", *(f"DeepSpeed, stage {s}" for s in range(4))]
    assert names[:6] == backends
    assert all(row["value"] > 0 for row in result["rows"][:7])
    assert set(result["ratios"]) == {f"time of {backend} / DDP" for backend in backends if backend != "DDP"}
    waiting = next(row for row in result["rows"] if row["name"].endswith("waiting for data"))
    assert 0 <= waiting["value"] <= 100
    assert "n/a" in result["notes"]["model FLOPs utilisation"]
    assert result["machine"]["processes"] == 2


@pytest.mark.multiprocess
def test_steps_of_a_nowcast_use_sufficiently_long_windows() -> None:
    net = ["task=nowcast", "model.name=furenet", "model.widths=[4,4,4,4]", "model.squeeze=2", "data.heights_km=[3.0]"]
    result = perf("step", "demo", *net, *BRIEF)
    assert all(row["value"] > 0 for row in result["rows"][:7])


@pytest.mark.multiprocess
def test_scaling_is_measured_and_modeled_up_to_1024_gpus() -> None:
    result = perf("scaling", "demo", *SMALL)
    modelled = {row["name"]: row for row in result["rows"] if row["name"].startswith("modelled weak")}
    assert list(modelled) == [f"modelled weak, {2**k} GPUs" for k in range(1, 11)]
    assert all(0 < row["low"] <= row["high"] <= 100 for row in modelled.values())
    assert "latency" in result["notes"]["all-reduce here"]
    assert "10 µs" in result["notes"]["assumed beyond"]
    assert any(name.startswith("weak, 2 processes") for name in result["ratios"])

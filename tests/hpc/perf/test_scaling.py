"""The α–β model by its laws, and the measurements of steps and scaling by what they print."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.hpc.perf.measure import peak_by_name
from polarcast.hpc.perf.network_model import Network, all_reduce_seconds, efficiency, fitted

networks = st.builds(Network, st.floats(1e-7, 1e-3), st.floats(1e8, 1e12))
sizes = st.floats(1.0, 1e10)


@given(networks, sizes, st.integers(1, 10))
def test_more_processes_or_bytes_never_take_less(network: Network, size: float, power: int) -> None:
    p = 2**power
    assert all_reduce_seconds(network, p, size) <= all_reduce_seconds(network, 2 * p, size) * (1 + 1e-9)
    assert all_reduce_seconds(network, p, size) <= all_reduce_seconds(network, p, 2 * size)


@given(networks, sizes)
def test_alone_nothing_is_exchanged_and_two_send_it_once(network: Network, size: float) -> None:
    assert all_reduce_seconds(network, 1, size) == 0
    assert all_reduce_seconds(network, 2, size) == pytest.approx(2 * network.latency + size / network.bandwidth)


@given(networks)
def test_a_large_message_costs_twice_its_bytes_however_many_share_it(network: Network) -> None:
    size = 1e6 * network.latency * network.bandwidth
    assert all_reduce_seconds(network, 1024, size) == pytest.approx(2 * size / network.bandwidth, rel=0.01)


@given(networks, st.sampled_from([2, 4, 8]))
def test_the_fit_finds_the_network_that_made_the_times(network: Network, processes: int) -> None:
    lengths = [2.0**k for k in range(4, 34, 2)]
    ring = [2 * (processes - 1) * (network.latency + n / processes / network.bandwidth) for n in lengths]
    found = fitted(lengths, ring, processes)
    assert found.latency == pytest.approx(network.latency, rel=1e-3)
    assert found.bandwidth == pytest.approx(network.bandwidth, rel=1e-3)


@given(st.floats(1e-6, 10), st.floats(0, 10), st.floats(0, 1))
def test_hiding_helps_and_nothing_exceeds_one(compute: float, exchange: float, overlap: float) -> None:
    assert 0 < efficiency(compute, exchange, 0) <= efficiency(compute, exchange, overlap) <= 1
    assert efficiency(compute, 0, overlap) == 1


def test_a_device_nobody_knows_has_no_peak() -> None:
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
def test_steps_are_measured_every_way_on_two_processes() -> None:
    told = perf("step", "demo", *SMALL, "--processes", "2")
    names = [row["name"] for row in told["rows"]]
    ways = ["torch alone", "DDP", *(f"DeepSpeed, stage {s}" for s in range(4))]
    assert names[:6] == ways
    assert all(row["value"] > 0 for row in told["rows"][:7])
    assert set(told["ratios"]) == {f"time of {way} / DDP" for way in ways if way != "DDP"}
    waiting = next(row for row in told["rows"] if row["name"].endswith("waiting for data"))
    assert 0 <= waiting["value"] <= 100
    assert "n/a" in told["notes"]["model FLOPs utilisation"]
    assert told["machine"]["processes"] == 2


@pytest.mark.multiprocess
def test_steps_of_a_nowcast_are_measured_on_windows_long_enough() -> None:
    net = ["task=nowcast", "model.name=furenet", "model.widths=[4,4,4,4]", "model.squeeze=2", "data.heights_km=[3.0]"]
    told = perf("step", "demo", *net, *BRIEF)
    assert all(row["value"] > 0 for row in told["rows"][:7])


@pytest.mark.multiprocess
def test_scaling_is_measured_here_and_modelled_up_to_a_thousand_gpus() -> None:
    told = perf("scaling", "demo", *SMALL)
    modelled = {row["name"]: row for row in told["rows"] if row["name"].startswith("modelled weak")}
    assert list(modelled) == [f"modelled weak, {2**k} GPUs" for k in range(1, 11)]
    assert all(0 < row["low"] <= row["high"] <= 100 for row in modelled.values())
    assert "latency" in told["notes"]["all-reduce here"]
    assert "10 µs" in told["notes"]["assumed beyond"]
    assert any(name.startswith("weak, 2 processes") for name in told["ratios"])

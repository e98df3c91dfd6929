"""Ports of distributed runs: who reaches them, and what a stranger can do there."""

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from polarcast.data.errors import WorkFailed
from polarcast.hpc.distributed.heartbeat import STEP, Heartbeat
from polarcast.hpc.distributed.launch import run_ranks
from polarcast.hpc.distributed.message import unpack
from polarcast.hpc.distributed.network_interface import name_interface
from polarcast.hpc.distributed.rendezvous import serve, visit
from polarcast.hpc.distributed.signed_store import SignedStore
from polarcast.hpc.distributed.world import World, detect
from tests.support.listening import listening_addresses

PROJECT = Path(__file__).resolve().parents[2]
RANK = """
import json, os, pathlib, sys
from polarcast.hpc.distributed.heartbeat import STEP, Heartbeat
from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.training.backends.deepspeed import deepspeed_for
from tests.support.listening import listening_addresses, processes_below
world = detect()
with deepspeed_for(world), Heartbeat(world, 60, print) as heartbeat:
    heartbeat.at(1, STEP)
    names = gather(f"rank {world.rank}", world)
    addresses, mode = listening_addresses(processes_below(os.getppid())), os.stat(world.folder).st_mode & 0o777
    if world.is_first:
        pathlib.Path(sys.argv[1]).write_text(json.dumps([names, addresses, world.folder, mode]))
    gather(None, world)
os._exit(0)
"""


@pytest.mark.multiprocess
def test_a_local_launch_listens_on_no_outer_interface(tmp_path: Path) -> None:
    environment = {
        **os.environ, "PYTHONPATH": str(PROJECT), "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "eth0",  # as a profile of a cluster sets it for jobs of several nodes
    }  # fmt: skip
    with (tmp_path / "errors").open("w+b") as errors:
        code, _ = run_ranks([sys.executable, "-c", RANK, str(tmp_path / "found")], 2, environment, errors, 120)
    assert code == 0, (tmp_path / "errors").read_text()
    names, addresses, folder, mode = json.loads((tmp_path / "found").read_text())
    assert names == ["rank 0", "rank 1"]
    assert addresses
    assert set(addresses) == {"127.0.0.1"}
    assert mode == 0o700
    assert not Path(folder).exists()


@pytest.mark.multiprocess
def test_a_single_process_listens_on_no_outer_interface() -> None:
    code = (
        "import os\nfrom polarcast.hpc.distributed.world import World\n"
        "from polarcast.hpc.distributed.process_group import join\nfrom tests.support.listening import *\n"
        "join(World(), even_alone=True)\nprint(listening_addresses({os.getpid()}), flush=True)\nos._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert set(eval(done.stdout)) <= {"127.0.0.1"}, done.stderr


@pytest.fixture
def outward() -> str:
    """Address of an interface that is not loopback; skip without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no route to another machine")
        return str(probe.getsockname()[0])


def test_the_store_of_a_job_listens_on_no_other_interface(outward: str) -> None:
    before = listening_addresses({os.getpid()})
    on_one_node = serve(World(size=2, local_size=2, address="n1"), 0, 5)
    assert listening_addresses({os.getpid()}) == sorted([*before, "127.0.0.1"])
    visit("127.0.0.1", on_one_node.port, 5).set("a", "b")
    # The node's own name may be that of a loopback address.
    job = serve(World(size=2, local_size=1, address="localhost", hosts=("localhost", outward)), 0, 5)
    assert listening_addresses({os.getpid()}) == sorted([*before, "127.0.0.1", outward])
    visit(outward, job.port, 5).set("a", "b")
    assert (on_one_node.get("a"), job.get("a")) == (b"b", b"b")


def test_a_port_that_is_taken_is_no_traceback() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(WorkFailed, match=rf"port {taken.getsockname()[1]} of .*: Address already in use — "):
            serve(World(size=2, local_size=2), taken.getsockname()[1], 5)


def test_loopback_is_no_interface_between_nodes(outward: str) -> None:
    env: dict[str, str] = {}
    name_interface(World(size=2, local_size=1, address="localhost", hosts=("localhost", outward)), env)
    assert "lo" not in env.values()


class Touch:
    """A pickle of this runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_message_of_a_stranger_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a message of a rank"):
        unpack(pickle.dumps(Touch(tmp_path / "touched")))
    assert not (tmp_path / "touched").exists()


def test_a_heartbeat_of_a_stranger_counts_for_no_rank() -> None:
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    mine, stranger = SignedStore(store, "token of the job"), SignedStore(store, "a guess")
    for rank in (0, 1):
        mine.write(rank, {"beats": 1})
        stranger.write(rank, {"beats": 7})
    assert mine.read(0) == {"beats": 1}
    keys = [mine._key(rank) for rank in (0, 1)]
    store.set(keys[0], store.get(stranger._key(0)))
    assert mine.read(0) is None
    store.set(keys[0], store.get(keys[1]))  # signed, but by another rank
    assert mine.read(0) is None
    for junk in (b"", b"\xff" * 80, b"{}", pickle.dumps(1)):
        store.set(keys[0], junk)
        assert mine.read(0) is None


def test_a_stranger_in_the_store_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 and its heartbeat, with a store whose values are replaced all the time."""
    hangs: list[str] = []
    monkeypatch.setattr("polarcast.hpc.distributed.heartbeat.gather", lambda item, _: [item, item])
    monkeypatch.setattr("polarcast.hpc.distributed.heartbeat.os._exit", lambda _: None)
    store = serve(World(size=2, local_size=2), 0, 5)
    monkeypatch.setattr("polarcast.hpc.distributed.heartbeat._store", lambda *_: store)
    other = visit("127.0.0.1", store.port, 5)
    heartbeat = Heartbeat(World(rank=0, size=2, local_size=2), 60, hangs.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SignedStore, "_key", lambda self, rank: f"rank {rank}")
        store.set("rank 1", "nothing yet")
        with heartbeat:
            for key in other.list_keys():
                other.set(
                    key, '{"rank": 1, "record": {"beats": 9, "ticks": 9, "step": 9, "phase": "x", "host": "<b>"}}'
                )
            heartbeat.at(3, STEP)
            heartbeat._read()
    assert {beat["step"] for beat in heartbeat._beats.values()} == {0}
    assert hangs == []


def test_a_folder_of_ranks_without_a_rank_is_no_world() -> None:
    assert detect({"POLARCAST_RANKS": "/nowhere"}) == World()

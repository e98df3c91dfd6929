"""Selection of the network interface, on the real interfaces of this machine."""

import socket

import pytest

from polarcast.hpc.distributed.network_interface import (
    address_to_listen_on,
    interface_of,
    interface_towards,
    name_interface,
)
from polarcast.hpc.distributed.world import World


@pytest.fixture
def outward() -> tuple[str, str]:
    """Name and address of an interface that is not loopback; skip without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no route to another machine")
        address = probe.getsockname()[0]
    name = interface_of(address)
    assert name is not None
    return name, address


def test_loopback_interface_is_found_by_address() -> None:
    assert interface_of("127.0.0.1") == "lo"


def test_unknown_address_has_no_interface() -> None:
    assert interface_of("192.0.2.77") is None


def test_loopback_hosts_are_skipped(outward: tuple[str, str]) -> None:
    name, address = outward
    assert interface_towards(["localhost", "no-such-host.invalid", "127.0.1.1", address]) == name
    assert interface_towards(["localhost"]) is None


def test_interface_is_set_for_gloo_and_nccl_on_several_nodes(outward: tuple[str, str]) -> None:
    name, address = outward
    env: dict[str, str] = {"NCCL_SOCKET_IFNAME": "ib0"}
    name_interface(World(size=4, local_size=2, address="localhost", hosts=("localhost", address)), env)
    assert env == {"NCCL_SOCKET_IFNAME": "ib0", "GLOO_SOCKET_IFNAME": name}


def test_loopback_is_used_on_one_node() -> None:
    env: dict[str, str] = {"GLOO_SOCKET_IFNAME": "ib0"}  # as a profile sets it for jobs of several nodes
    name_interface(World(size=4, local_size=4, address="192.0.2.1"), env)
    assert env == {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


def test_rank_0_listens_where_the_others_look_for_it(outward: tuple[str, str]) -> None:
    _, address = outward
    assert address_to_listen_on(World(size=2, local_size=2, address=address)) == "127.0.0.1"
    assert address_to_listen_on(World(size=2, address="localhost")) == "127.0.0.1"
    assert address_to_listen_on(World(size=2, address=address)) == address
    assert address_to_listen_on(World(size=2, address="localhost", hosts=("localhost", address))) == address
    # Such as the name of a service that forwards to this node: all interfaces.
    assert address_to_listen_on(World(size=2, address="no-such-host.invalid")) == ""

"""The network interface that leads to the other nodes of a job.

gloo and NCCL look up the node's own name to find it. Where that name stands for 127.0.0.1, as Debian's installer has
it, other nodes are told to meet this one on themselves, and the job fails or hangs.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Iterable, MutableMapping

from polarcast.hpc.distributed.world import World

_SETTINGS = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_SIOCGIFADDR = 0x8915
_ANY_PORT = 9


def name_interface(world: World, env: MutableMapping[str, str] = os.environ) -> None:
    """Tell gloo and NCCL which interface to take in a job of several nodes; what is set already stays."""
    if world.size == world.local_size:
        return
    if found := interface_towards((*world.hosts, world.address)):
        for setting in _SETTINGS:
            env.setdefault(setting, found)


def interface_towards(hosts: Iterable[str]) -> str | None:
    """Name of the interface on the way to the first of the hosts that is not reached by loopback; None for none."""
    for host in hosts:
        address = _own_address_towards(host)
        if address and not address.startswith("127."):
            return interface_of(address)
    return None


def interface_of(address: str) -> str | None:
    """Name of the interface that has this IPv4 address; None where none has."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if _address_of(name) == address), None)


def _own_address_towards(host: str) -> str | None:
    """This node's address on the way to a host. Nothing is sent: to connect a datagram socket looks up the route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, _ANY_PORT))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _address_of(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            reply = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:  # it has no IPv4 address
            return None
    return socket.inet_ntoa(reply[20:24])

"""Select the network interface to the other nodes of a job.

gloo and NCCL resolve the node's own host name to find it. If the name resolves to a loopback address, as the Debian
installer configures it, other nodes connect to themselves, and the job fails or hangs.
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
    """Set the interface for gloo and NCCL in a job of several nodes; keep variables that are already set."""
    if world.size == world.local_size:
        return
    if found := interface_towards((*world.hosts, world.address)):
        for setting in _SETTINGS:
            env.setdefault(setting, found)


def interface_towards(hosts: Iterable[str]) -> str | None:
    """Return the interface towards the first host that is not reached by loopback; None if there is none."""
    for host in hosts:
        address = _own_address_towards(host)
        if address and not address.startswith("127."):
            return interface_of(address)
    return None


def interface_of(address: str) -> str | None:
    """Return the name of the interface with this IPv4 address; None if there is none."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if _address_of(name) == address), None)


def _own_address_towards(host: str) -> str | None:
    """Return this node's address on the route to a host. Connecting a datagram socket sends nothing."""
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
        except OSError:  # no IPv4 address
            return None
    return socket.inet_ntoa(reply[20:24])

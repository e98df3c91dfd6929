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
LOOPBACK = "127.0.0.1"


def name_interface(world: World, env: MutableMapping[str, str] = os.environ) -> None:
    """Set the interface for gloo and NCCL.

    On one node it is loopback, which other nodes can't reach, whatever the variables say: they name the interface
    between nodes. On several nodes, variables that are already set are kept.
    """
    if world.is_on_one_node:
        env.update(dict.fromkeys(_SETTINGS, interface_of(LOOPBACK) or "lo"))
    elif found := interface_towards((*world.hosts, world.address)):
        for setting in _SETTINGS:
            env.setdefault(setting, found)


def interface_towards(hosts: Iterable[str]) -> str | None:
    """Return the interface towards the first host that is not reached by loopback; None if there is none."""
    address = _address_towards(hosts)
    return interface_of(address) if address else None


def address_to_listen_on(world: World) -> str:
    """Return the address at which rank 0 is reached by the others: loopback on one node; empty if it isn't known.

    The other ranks look up the name of rank 0's node, so an address of that name comes first.
    """
    if world.is_on_one_node or (not world.hosts and world.address in ("localhost", LOOPBACK)):
        return LOOPBACK
    named = _own_address_of(world.address)
    return named or _address_towards((*world.hosts, world.address)) or ""


def interface_of(address: str) -> str | None:
    """Return the name of the interface with this IPv4 address; None if there is none."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if _address_of(name) == address), None)


def _address_towards(hosts: Iterable[str]) -> str | None:
    """Return this node's address on the route to the first host that is not reached by loopback."""
    addresses = (_own_address_towards(host) for host in hosts)
    return next((address for address in addresses if address and not address.startswith("127.")), None)


def _own_address_of(name: str) -> str | None:
    """Return the first address of a name that is this node's own, but not loopback."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return None
    addresses = (str(entry[4][0]) for entry in found)
    return next((address for address in addresses if not address.startswith("127.") and interface_of(address)), None)


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

"""Where ranks meet: a file in a private folder, or a store of rank 0 that listens on one interface only."""

import os
import socket
from datetime import timedelta
from typing import Any

from torch.distributed import FileStore, TCPStore  # type: ignore[attr-defined]

from polarcast.data.errors import WorkFailed
from polarcast.hpc.distributed.network_interface import LOOPBACK, address_to_listen_on
from polarcast.hpc.distributed.world import World

_BACKLOG = 4096
_SECONDS_TO_MEET = 1800
"""Nodes may load Python and torch at very different speeds."""


def meeting_store(world: World) -> Any:
    """Return the key-value store in which all ranks find each other. Collective.

    Raises:
        WorkFailed: the port of rank 0 is taken.
    """
    if world.folder:
        return file_store(world, "meeting")
    if world.is_first:
        return serve(world, world.port, _SECONDS_TO_MEET, world.size)
    address = LOOPBACK if world.is_on_one_node else world.address
    return visit(address, world.port, _SECONDS_TO_MEET, world.size)


def file_store(world: World, name: str) -> Any:
    """Return a store in a file of the launcher's folder, which only this user can enter."""
    return FileStore(os.path.join(world.folder, name), world.size)


def serve(world: World, port: int, seconds: float, wait_for: int | None = None) -> Any:
    """Return a store that this process serves; it listens on the interface to the other ranks only.

    Args:
        world: Rank and size of this process's job.
        port: Port to listen on; 0: chosen by the system.
        seconds: Timeout of each operation.
        wait_for: Number of processes to wait for, with this one.

    Raises:
        WorkFailed: the port is taken.
    """
    address = address_to_listen_on(world)
    with _listener(address, port) as listener:
        port, descriptor = listener.getsockname()[1], listener.detach()
    # All interfaces, if the one to the others isn't known: this process reaches itself by loopback.
    return _tcp(address or LOOPBACK, port, seconds, wait_for, is_master=True, master_listen_fd=descriptor)


def visit(address: str, port: int, seconds: float, wait_for: int | None = None) -> Any:
    """Return the store that another process serves."""
    return _tcp(address, port, seconds, wait_for, is_master=False)


def _tcp(address: str, port: int, seconds: float, wait_for: int | None, **options: Any) -> Any:
    waits, timeout = wait_for is not None, timedelta(seconds=seconds)
    return TCPStore(address, port, wait_for, timeout=timeout, wait_for_workers=waits, **options)


def _listener(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        host, fix = socket.gethostname(), "end the process that listens there, or submit the job again"
        raise WorkFailed(f"port {port} of {host}: {error.strerror} — {fix}") from None
    return listener

"""Sockets that processes listen on, from /proc."""

import os
import socket
from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"


def processes_below(pid: int) -> set[int]:
    """Return a process and all its descendants."""
    children: dict[int, set[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, set()).add(int(entry.name))
    found, new = {pid}, {pid}
    while new:
        new = {child for one in new for child in children.get(one, ())} - found
        found |= new
    return found


def listening_addresses(pids: set[int]) -> list[str]:
    """Return the addresses on which processes listen for TCP connections, sorted."""
    mine = {inode for pid in pids for inode in _sockets_of(pid)}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return sorted(_address(row[1].partition(":")[0]) for row in rows if row[3] == _LISTEN and row[9] in mine)


def _sockets_of(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(os.readlink(handle).removeprefix("socket:[").removesuffix("]"))
    return found


def _address(code: str) -> str:
    """Parse an address of /proc/net/tcp: words of 32 bits in the machine's byte order."""
    content = b"".join(bytes.fromhex(code[i : i + 8])[::-1] for i in range(0, len(code), 8))
    return socket.inet_ntop(socket.AF_INET if len(content) == 4 else socket.AF_INET6, content)

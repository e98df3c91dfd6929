"""Number of cores that this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return the cores of the affinity mask, at most as many as the quota of a cgroup allows, at least 1."""
    return max(1, int(min([len(os.sched_getaffinity(0)), *cpu_quotas()])))


def cpu_quotas(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> list[float]:
    """Return the quotas in cores of this process's control groups, of version 2 or 1, and of all above them.

    Args:
        cgroups: Where the control groups are mounted.
        membership: File with the groups of this process.
    """
    try:
        lines = membership.read_text(errors="replace").splitlines()
    except OSError:
        return []
    groups = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    folders = [cgroups / path.lstrip("/") for _, controllers, path in groups if not controllers]
    for _, controllers, path in groups:
        if "cpu" in controllers.split(","):
            folders += [cgroups / name / path.lstrip("/") for name in dict.fromkeys((controllers, "cpu"))]
    quotas = [_quota(folder) for start in folders for folder in _upward(start, cgroups)]
    return [quota for quota in quotas if quota is not None]


def _upward(folder: Path, root: Path) -> Iterator[Path]:
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _quota(folder: Path) -> float | None:
    """Return the quota of one control group in cores; None without one."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # `max` is no number
        return None

"""Energy counters of GPUs (NVML) and CPUs (Linux powercap), where readable."""

import ctypes
from collections.abc import Callable
from pathlib import Path

from polarcast.hpc.distributed.world import World, device_of

POWERCAP = Path("/sys/class/powercap")
_PACKAGES = "intel-rapl:[0-9]*"
"""Packages; AMD processors use the same name. `intel-rapl:0:1` is a part of `intel-rapl:0`."""
_MICRO, _MILLI = 1e-6, 1e-3


class Meter:
    """Energy used by the GPU of this rank and, on the first rank of a node, by the CPUs."""

    def __init__(self, world: World, powercap: Path = POWERCAP) -> None:
        """Find the readable counters, and start measuring."""
        device = device_of(world)
        self._gpu = _gpu_counter(device) if device.startswith("cuda") else None
        self._processors = _processors(powercap) if world.local_rank == 0 else []
        self._before = self._read()

    def take(self) -> float | None:
        """Return the energy since the last call, in joules; None without a readable counter."""
        now, before = self._read(), self._before
        self._before = now
        if not now or len(now) != len(before):
            return None
        spent = [(b - a) % span if span else b - a for (a, span), (b, _) in zip(before, now, strict=True)]
        return sum(spent)

    def _read(self) -> list[tuple[float, float]]:
        """Return each counter in joules, with the value at which it wraps to zero (0: never)."""
        try:
            packages = [
                (_number(path / "energy_uj") * _MICRO, _number(path / "max_energy_range_uj") * _MICRO)
                for path in self._processors
            ]
            return packages + ([(self._gpu() * _MILLI, 0.0)] if self._gpu else [])
        except OSError:
            return []


def _processors(powercap: Path) -> list[Path]:
    """Return the CPU packages whose counters are readable; most systems restrict them to root."""
    found = [path for path in sorted(powercap.glob(_PACKAGES)) if path.name.count(":") == 1]
    try:
        for path in found:
            _number(path / "energy_uj")
    except OSError:
        return []
    return found


def _number(path: Path) -> int:
    return int(path.read_text("utf-8"))


def _gpu_counter(device: str) -> Callable[[], int] | None:
    """Return a function that reads the energy of a GPU since driver load, in mJ; None if unsupported.

    Source: NVML, nvmlDeviceGetTotalEnergyConsumption (Volta and newer).
    """
    import torch

    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle, value = ctypes.c_void_p(), ctypes.c_ulonglong()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)):
        return None

    def read() -> int:
        if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value)):
            raise OSError("the GPU's energy can't be read")
        return value.value

    try:
        read()
    except OSError:
        return None
    return read

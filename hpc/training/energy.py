"""Energy that devices count themselves, where it may be read: GPUs by NVML, processors by Linux' powercap."""

import ctypes
from collections.abc import Callable
from pathlib import Path

from polarcast.hpc.distributed.world import World, device_of

POWERCAP = Path("/sys/class/powercap")
_PACKAGES = "intel-rapl:[0-9]*"
"""Of AMD's processors, too. `intel-rapl:0:1` are parts of `intel-rapl:0`."""
_MICRO, _MILLI = 1e-6, 1e-3


class Meter:
    """Joules since it was last read, of this rank's GPU, and on the first rank of a node of its processors."""

    def __init__(self, world: World, powercap: Path = POWERCAP) -> None:
        """Begins to count."""
        device = device_of(world)
        self._gpu = _gpu_counter(device) if device.startswith("cuda") else None
        self._processors = _processors(powercap) if world.local_rank == 0 else []
        self._before = self._read()

    def take(self) -> float | None:
        """Joules since the last time; None where nothing can be read."""
        now, before = self._read(), self._before
        self._before = now
        if not now or len(now) != len(before):
            return None
        spent = [(b - a) % span if span else b - a for (a, span), (b, _) in zip(before, now, strict=True)]
        return sum(spent)

    def _read(self) -> list[tuple[float, float]]:
        """Joules counted, and where that begins again at zero (0: never)."""
        try:
            packages = [
                (_number(path / "energy_uj") * _MICRO, _number(path / "max_energy_range_uj") * _MICRO)
                for path in self._processors
            ]
            return packages + ([(self._gpu() * _MILLI, 0.0)] if self._gpu else [])
        except OSError:
            return []


def _processors(powercap: Path) -> list[Path]:
    """Those whose counters this user may read; most systems keep them for root."""
    found = [path for path in sorted(powercap.glob(_PACKAGES)) if path.name.count(":") == 1]
    try:
        for path in found:
            _number(path / "energy_uj")
    except OSError:
        return []
    return found


def _number(path: Path) -> int:
    return int(path.read_text())


def _gpu_counter(device: str) -> Callable[[], int] | None:
    """Reads the millijoules that a GPU has used since its driver was loaded; None for GPUs that don't count them.

    Source: NVML, nvmlDeviceGetTotalEnergyConsumption (Volta and younger).
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

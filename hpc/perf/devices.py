"""What devices are made to reach."""

import torch

_PEAKS = {
    "H100 PCIe": (756e12, 51e12),
    "H100": (989e12, 67e12),
    "H200": (989e12, 67e12),
    "B200": (2250e12, 80e12),
    "A100": (312e12, 19.5e12),
    "L40S": (362e12, 91.6e12),
    "A40": (149.7e12, 37.4e12),
}
"""By a part of the name NVIDIA's driver gives: FLOP/s in bfloat16 on tensor cores without sparsity, and in float32 off
them (data sheets). The first that matches counts."""


def peak_flops(device: torch.device, bf16: bool) -> float | None:
    """Most FLOP/s of a device by its maker's word; None for one that is not known, as every CPU."""
    return peak_by_name(torch.cuda.get_device_name(device), bf16) if device.type == "cuda" else None


def peak_by_name(name: str, bf16: bool) -> float | None:
    """The same by the name of a GPU."""
    return next((peaks[0 if bf16 else 1] for part, peaks in _PEAKS.items() if part in name), None)

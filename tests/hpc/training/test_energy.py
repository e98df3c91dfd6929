"""Energy from powercap counters, in files with the layout of Linux."""

from pathlib import Path

import pytest

from polarcast.hpc.distributed.world import World
from polarcast.hpc.training.energy import Meter


def powercap(folder: Path, **counters: tuple[int, int]) -> Path:
    """Write counters: name (`intel-rapl_0` for intel-rapl:0) to (microjoules, value at which it wraps)."""
    for name, (used, span) in counters.items():
        package = folder / name.replace("_", ":")
        package.mkdir(parents=True, exist_ok=True)
        (package / "energy_uj").write_text(f"{used}\n")
        (package / "max_energy_range_uj").write_text(f"{span}\n")
    return folder


def test_packages_are_summed_without_their_parts_and_counters_wrap(tmp_path: Path) -> None:
    span = 262_143_328_850
    parts = {"intel-rapl_0_0": (0, span)}
    place = powercap(tmp_path, **{"intel-rapl_0": (5_000_000, span), "intel-rapl_1": (span - 1_000_000, span)}, **parts)
    meter = Meter(World(), place)
    powercap(tmp_path, **{"intel-rapl_0": (7_500_000, span), "intel-rapl_1": (500_000, span)})
    assert meter.take() == pytest.approx(2.5 + 1.5)
    assert meter.take() == 0.0


def test_only_the_first_process_of_a_node_counts_its_cpus(tmp_path: Path) -> None:
    place = powercap(tmp_path, **{"intel-rapl_0": (0, 100)})
    assert Meter(World(rank=1, size=2, local_rank=1, local_size=2), place).take() is None


def test_missing_counters_return_none(tmp_path: Path) -> None:
    assert Meter(World(), tmp_path / "nothing").take() is None
    place = powercap(tmp_path / "some", **{"intel-rapl_0": (0, 100)})
    meter = Meter(World(), place)
    (place / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.take() is None
    assert meter.take() is None

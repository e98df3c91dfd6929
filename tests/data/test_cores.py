"""Cores that a process may use: affinity mask and quotas of control groups."""

import os
from pathlib import Path

import pytest

from polarcast.data import cores
from polarcast.data.cores import cpu_quotas, usable_cores


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_quotas_of_all_groups_above_count(tmp_path: Path) -> None:
    group(tmp_path / "job" / "step", cpu__max="max 100000\n")
    group(tmp_path / "job", cpu__max="350000 100000\n")
    (tmp_path / "own").write_text("0::/job/step\n")
    assert cpu_quotas(tmp_path, tmp_path / "own") == [3.5]


def test_version_1_has_a_folder_of_its_own(tmp_path: Path) -> None:
    group(tmp_path / "cpu,cpuacct" / "job", cpu__cfs_quota_us="150000\n", cpu__cfs_period_us="100000\n")
    group(tmp_path / "cpu,cpuacct", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    (tmp_path / "own").write_text("4:memory:/job\n3:cpu,cpuacct:/job\n")
    assert cpu_quotas(tmp_path, tmp_path / "own") == [1.5]


def test_no_quota_without_control_groups(tmp_path: Path) -> None:
    assert cpu_quotas(tmp_path, tmp_path / "own") == []


@pytest.mark.parametrize(("quotas", "expected"), [([], 8), ([3.5, 6.0], 3), ([0.5], 1), ([64.0], 8)])
def test_the_smallest_limit_counts(quotas: list[float], expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "cpu_quotas", lambda: quotas)
    assert usable_cores() == expected

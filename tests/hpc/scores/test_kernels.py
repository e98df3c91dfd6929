"""Compiled loops: exact sums, equal to torch's operators on other devices, kept only where it is safe."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polarcast.hpc.scores import arrays, categorical, classes, continuous, ensemble, spectra
from polarcast.hpc.scores.compiled import cache_folder
from polarcast.hpc.scores.fss import fractions, sums_on_device
from polarcast.hpc.scores.fss_kernel import window_sums
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.sums import score_fields
from tests.support.fields import PAIRS, missing, rain


def brute_force(forecast: np.ndarray, observed: np.ndarray, threshold: float, window: int) -> tuple[int, int]:
    """Σ(f − o)² and Σ(f² + o²) of the events in windows, as Python's integers."""
    counts = []
    for field in (forecast, observed):
        height, width = field.shape
        table = np.pad((field >= np.float32(threshold)).astype(np.int64), ((window,) * 2,) * 2).cumsum(0).cumsum(1)
        table = np.pad(table, ((1, 0), (1, 0)))
        low, high = window - window // 2, 2 * window - window // 2
        rows = table[high : high + height] - table[low : low + height]
        counts.append((rows[:, high : high + width] - rows[:, low : low + width]).astype(object))
    f, o = counts
    return int(((f - o) ** 2).sum()), int((f * f + o * o).sum())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), height=st.integers(1, 40), width=st.integers(1, 90),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]), window=st.integers(1, 100), other=st.integers(1, 100),
)  # fmt: skip
def test_window_sums_are_exact(seed: int, height: int, width: int, share: float, window: int, other: int) -> None:
    """Values at the threshold are events, NaN are not; windows may be even, or larger than the field."""
    rng = np.random.default_rng(seed)
    forecast, observed = np.where(rng.random((2, 1, height, width)) < share, 0.7, 0.1).astype(np.float32)
    forecast[rng.random(forecast.shape) < 0.1] = np.nan
    sums = window_sums(forecast, observed, np.array([0.7], np.float32), [window, other])
    assert [tuple(row) for row in sums[0, 0]] == [
        brute_force(forecast[0], observed[0], 0.7, w) for w in (window, other)
    ]


@pytest.mark.parametrize("windows", [(1, 65, 90), (91, 181), (182, 300), (255, 256, 700)])
def test_full_windows_do_not_overflow(windows: tuple[int, ...]) -> None:
    """In a row, squared counts exceed an int32 from windows of 55 pixels; int16 tables wrap around."""
    forecast, observed = np.ones((1, 200, 310), np.float32), np.zeros((1, 200, 310), np.float32)
    observed[0, ::3] = 1
    sums = window_sums(forecast, observed, np.array([1], np.float32), windows)
    assert [tuple(row) for row in sums[0, 0]] == [brute_force(forecast[0], observed[0], 1, w) for w in windows]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_fss_of_a_device_equals_the_compiled_one(dtype: torch.dtype) -> None:
    forecast, observed = (field.to(dtype) for field in PAIRS["missing values"])
    levels, windows = (0.1, 5.0), (1, 2, 9, 33)
    sums = sums_on_device(forecast, observed, levels, windows)
    areas = torch.tensor(windows, dtype=torch.float64)[:, None] ** 2
    assert torch.equal(fractions(forecast, observed, levels, windows), sums / areas**2)


@pytest.mark.parametrize("pair", PAIRS)
def test_kernels_equal_the_operators_of_other_devices(pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forecast, observed = PAIRS[pair]
    levels, edges = (0.5, 5.0, 20.0), (0.1, 1.0, 7.5, 30.0)

    def all_sums() -> list[tuple[Tensor, bool]]:
        members = torch.stack([forecast, rain(3), rain(4) + 2, forecast], 1)
        whole = spectra.spectrum(observed.nan_to_num())
        found = [
            (categorical.contingency(forecast, observed, levels), True),
            (categorical.pooled_contingency(forecast, observed, levels, (4, 7)), True),
            (categorical.multi_event_contingency(forecast, observed, levels, (1, 5, 17)), True),
            (spectra.histogram(observed, edges), True),
            (spectra.joint_histogram(forecast, observed, edges), True),
            (continuous.moments(forecast, observed, (0.0, 5.0, 20.0)), False),
            (whole, False),
        ]
        if not observed.isnan().any():
            found += [
                (ensemble.crps_sums(ensemble.sort_members(members), observed, (-float("inf"), 5.0)), False),
                (ensemble.spread_sums(members, observed), False),
                (ensemble.rank_counts(members, observed), False),
                (ensemble.probability_counts(members, observed, levels), True),
            ]
        return found

    compiled = all_sums()
    for module in (arrays, categorical, classes, continuous, ensemble, spectra):
        monkeypatch.setattr(module, "on_cpu", lambda *_: False, raising=False)
    for (ours, exact), (theirs, _) in zip(compiled, all_sums(), strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0 if exact else 1e-12, atol=0 if exact else 1e-9)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_threshold_is_not_rounded_to_half_precision(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "on_cpu", lambda *_: compiled)
    monkeypatch.setattr(ensemble, "on_cpu", lambda *_: compiled)
    field = torch.full((1, 4, 4), 0.1).half()  # 0.09998
    assert (classes.classify(field, (0.1,)) == 1).all()
    assert ensemble.probability_counts(field[None], field, (0.1,))[0, 0].tolist() == [[16, 0], [0, 0]]


@pytest.mark.parametrize(("shape", "members"), [((32, 32), 1), ((100, 100), 5), ((20, 24), 8)])
@pytest.mark.parametrize("unit", ["mm/h", "dBZ"])
def test_sums_do_not_depend_on_the_batch(shape: tuple[int, int], members: int, unit: str) -> None:
    """To the last digit."""
    generator = torch.Generator().manual_seed(members)
    forecast, observed = (
        (20 * torch.randn(13, *rest, generator=generator)).clamp(min=0) for rest in ((members, *shape), shape)
    )
    protocol = Protocol(unit, shape, members)
    whole = score_fields(forecast, observed, protocol)
    for size in (1, 2, 5):
        parts = [score_fields(*pair, protocol) for pair in zip(forecast.split(size), observed.split(size), strict=True)]
        for name, sums in whole.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), sums), name


def test_a_missing_value_is_not_lost_in_the_crps() -> None:
    members = torch.stack([rain(1), missing(rain(2)), rain(3)], 1)
    assert ensemble.crps_sums(ensemble.sort_members(members), rain(4), (5.0,))[..., 1].isnan().all()


class TestKeptCode:
    """Compiled code is executed, so it must not come from a folder that others can write to."""

    def test_it_lies_beside_the_source_if_that_is_writable(self, tmp_path: Path) -> None:
        assert cache_folder(tmp_path / "kernel.py") == tmp_path / "__pycache__"

    def test_everyone_may_write_to_the_installation(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        (tmp_path / "installed").mkdir()
        (tmp_path / "installed").chmod(0o777)
        folder = cache_folder(tmp_path / "installed" / "kernel.py")
        assert folder == tmp_path / "cache" / "polarcast" / "compiled"
        assert folder.stat().st_mode & 0o777 == 0o700

    def test_everyone_may_write_to_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        (tmp_path / "cache" / "polarcast" / "compiled").mkdir(parents=True)
        (tmp_path / "cache" / "polarcast" / "compiled").chmod(0o777)
        tmp_path.chmod(0o777)
        assert cache_folder(tmp_path / "kernel.py") is None

    def test_a_damaged_file_is_compiled_and_kept_anew(self, tmp_path: Path) -> None:
        (tmp_path / "own.py").write_text(
            "from polarcast.hpc.scores.compiled import kernel\n"
            "@kernel\ndef double(values, out):\n    out[0] = 2 * values[0]\n"
        )
        probe = "import numpy as np, own; a = np.ones(1); own.double(a, a); print(a[0])"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}

        def run(**settings: str) -> str:
            command, env = [sys.executable, "-c", probe], {**environment, **settings}
            return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()

        def kept() -> list[Path]:
            return [*(tmp_path / "__pycache__").glob("own.double-*.nb[ci]")]

        assert run(NUMBA_DISABLE_JIT="1") == "2.0"
        assert not kept()
        assert run() == "2.0"
        for suffix in (".nbc", ".nbi"):
            [damaged] = [file for file in kept() if file.suffix == suffix]
            damaged.write_bytes(b"damaged")
            assert run() == "2.0"
            assert not kept()
            assert run() == "2.0"
            assert len(kept()) == 2


def test_numba_is_loaded_by_scoring_only() -> None:
    probe = (
        "import sys, torch\nfrom polarcast.hpc.scores import sums\nfrom polarcast.hpc.scores.fss import fractions\n"
        "assert 'numba' not in sys.modules\nfractions(torch.ones(1, 8, 8), torch.ones(1, 8, 8), [1], [3])\n"
        "assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", probe], check=True)

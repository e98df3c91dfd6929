"""Comparison of synthetic storms and drops with real ones; skipped if the real data are not available."""

import os
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import open_archive
from polarcast.data.synth.drops import DropPrior
from polarcast.data.synth.generate import PRESETS, generate_event, write_archive
from polarcast.data.synth.side_by_side import beside_preset, compare

pytestmark = pytest.mark.acceptance

PROJECT = Path(__file__).parents[3]

# Tolerance of the difference between the median of the preset's events and the real event.
CLOSE = {
    "median ZDR at 20 dBZ (dB)": 0.12,
    "median ZDR at 30 dBZ (dB)": 0.15,
    "median ZDR at 35 dBZ (dB)": 0.15,
    "median ZDR at 40 dBZ (dB)": 0.2,
    "median KDP at 30 dBZ (deg/km)": 0.02,
    "median KDP at 35 dBZ (deg/km)": 0.02,
    "median KDP at 40 dBZ (deg/km)": 0.03,
    "roughness of ZDR at 20 dBZ (dB)": 0.06,
    "roughness of ZDR at 38 dBZ (dB)": 0.06,
    "roughness of KDP at 20 dBZ (deg/km)": 0.02,
    "roughness of KDP at 38 dBZ (deg/km)": 0.02,
    "wet fraction": 0.12,
    "median ZH of echo (dBZ)": 2.0,
    "95% quantile of ZH of echo (dBZ)": 3.0,
    "speed of motion (m/s)": 4.0,
    "spectral slope, 5-20 km": 0.25,
    "spectral slope, 20-100 km": 0.6,
    "lifetime at 16 km (min)": 6.0,
    "lifetime at 32 km (min)": 20.0,
}


@pytest.mark.real_data
def test_preset_njucpol_agrees_with_the_real_event(real_event):
    archive = open_archive(real_event)
    real = [np.stack([archive.read_radar(e, f) for f in frames]) for e, frames in archive.frames.items()]
    world = PRESETS["njucpol"]
    synthetic = (generate_event(world, 0, e, 256, 14).radar for e in range(8))
    rows = {row.quantity: (row.archive, row.median) for row in compare(real, synthetic)}
    off = {n: rows[n] for n, tolerance in CLOSE.items() if not abs(rows[n][0] - rows[n][1]) <= tolerance}
    assert off == {}


def test_a_preset_compared_with_its_own_archive_gives_equal_statistics(tmp_path):
    write_archive(tmp_path, 1, size=64, seed=0, preset="tiny", frames=8)
    rows = beside_preset(open_archive(tmp_path), "tiny", events=1, figure=tmp_path / "beside.png")
    assert {"lifetime at 32 km (min)", "roughness of ZDR at 38 dBZ (dB)"} <= {row.quantity for row in rows}
    for row in rows:
        assert row.archive == pytest.approx(row.median, nan_ok=True)
    assert (tmp_path / "beside.png").stat().st_size > 10_000


@pytest.mark.real_data
def test_drop_sizes_agree_with_a_disdrometer():
    """ln Dm given ln R of measured one-minute spectra: mean and spread."""
    shared = Path(os.environ.get("POLARCAST_SHARED", PROJECT.parent / "shared"))
    spectra = shared / "data" / "dsd_locarno_2018" / "locarno2018_dsd_1min.npz"
    if not spectra.is_file():
        pytest.skip(f"no measured drop spectra: {spectra} is missing")
    with np.load(spectra) as f:
        number, d, width, rain = (np.nan_to_num(f[k]) for k in ("N", "D_center_mm", "D_width_mm", "R_from_dsd"))
    wet = (rain > 1) & (rain < 60)
    dm = (number * d**4 * width).sum(axis=1)[wet] / (number * d**3 * width).sum(axis=1)[wet]
    deviation = np.log(dm) - np.log(DropPrior().dm(rain[wet], 0.0))
    assert deviation.mean() == pytest.approx(0.0, abs=0.08)
    assert deviation.std() == pytest.approx(DropPrior().dm_sd, abs=0.03)

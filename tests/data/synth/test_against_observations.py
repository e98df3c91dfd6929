"""Comparison of synthetic storms and drops with real ones; skipped if the real data are not available."""

import os
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import HEIGHTS_KM, open_archive
from polarcast.data.explore.content import ArchiveContent
from polarcast.data.synth.drops import DropPrior
from polarcast.data.synth.generate import PRESETS, generate_event
from polarcast.data.synth.side_by_side import compare, profile_archive_event, profile_of

pytestmark = pytest.mark.acceptance

PROJECT = Path(__file__).parents[3]

# Tolerance of the difference between the median of the preset's events and the real event.
CLOSE = {
    "bias of ZDR in light rain, 20-22 dBZ (dB)": 0.12,
    "ZDR at 20-30 dBZ, median (dB)": 0.15,
    "ZDR at 30-40 dBZ, median (dB)": 0.15,
    "KDP at 20-30 dBZ, median (deg/km)": 0.02,
    "KDP at 30-40 dBZ, median (deg/km)": 0.02,
    "roughness of ZDR at 20-30 dBZ (dB)": 0.06,
    "roughness of ZDR at 30-40 dBZ (dB)": 0.06,
    "roughness of KDP at 20-30 dBZ (deg/km)": 0.02,
    "roughness of KDP at 30-40 dBZ (deg/km)": 0.02,
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
    real = [profile_archive_event(archive, e, 256) for e in archive.frames]
    content = ArchiveContent(("zh", "zdr", "kdp"), HEIGHTS_KM, has_rain=False)
    world = PRESETS["njucpol"]
    synthetic = [profile_of(generate_event(world, 0, e, 256, 14).radar, None, content) for e in range(8)]
    rows = {row.quantity: (row.archive, row.median) for row in compare(real, synthetic)}
    off = {n: rows[n] for n, tolerance in CLOSE.items() if not abs(rows[n][0] - rows[n][1]) <= tolerance}
    assert off == {}


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

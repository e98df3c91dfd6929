"""Measured drop spectra beside presets: spectra against the closed-form integral, gains against their laws."""

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.synth.attainable import RainPrior, observe_prior
from polarcast.data.synth.drop_spectra import compare_drops, read_drop_minutes
from polarcast.data.synth.drops import DropPrior
from polarcast.data.synth.scattering import gamma_dsd, log10_nw, observe_rain, observe_spectra


def _write(path, drops=None, minutes=1500, seed=0, **changed):
    """Write minutes of rain whose drop sizes follow a prior."""
    rng = np.random.default_rng(seed)
    rain = np.exp(rng.normal(1.2, 0.9, minutes))
    zh, zdr, kdp = observe_prior(RainPrior(drops=drops or DropPrior()), rain, rng).T
    np.savez(path, **{"rain": rain, "zh": zh, "zdr": zdr, "kdp": kdp, **changed})
    return path


def _gain(found, truth, estimator, variables):
    return next(g for g in found.gains if (g.truth, g.estimator, g.variables) == (truth, estimator, variables))


def test_fine_spectra_of_gamma_distributions_have_their_radar_variables():
    rain, dm, mu = np.array([1.0, 5.0, 20.0, 60.0]), np.array([1.1, 1.4, 1.8, 2.1]), np.array([4.0, 3.0, 2.0, 6.0])
    edges = np.linspace(0, 8, 801)
    center, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    spectra = gamma_dsd(center, dm[:, None], mu[:, None], 10 ** log10_nw(dm, mu, rain)[:, None])
    spectra[center > 3 * dm[:, None]] = 0  # as in the integral
    rates, found = observe_spectra(spectra, center, width)
    expected = observe_rain(dm, mu, rain)
    assert rates == pytest.approx(rain, rel=0.01)
    assert found.zh == pytest.approx(expected.zh, abs=0.1)
    assert found.zdr == pytest.approx(expected.zdr, abs=0.05)
    assert found.kdp == pytest.approx(expected.kdp, rel=0.03)


def test_drops_of_the_preset_itself_agree_with_it(tmp_path):
    minutes = read_drop_minutes(_write(tmp_path / "site.npz", minutes=2500))
    found = compare_drops(minutes, "meiyu", DropPrior())
    for row in found.relations:
        if np.isfinite(row.measured):
            assert row.measured == pytest.approx(row.preset, rel=0.25, abs=0.03), row
    for variables in ("ZH, ZDR", "ZH, ZDR, KDP"):
        measured, preset = (_gain(found, which, which, variables) for which in ("measured", "preset"))
        assert measured.low < preset.gain < measured.high or measured.gain == pytest.approx(preset.gain, abs=0.06)
        assert measured.low > 0.2


def test_an_estimate_that_assumes_other_drops_is_worse_than_one_that_knows_them(tmp_path):
    """The posterior mean under the true drops has the least mean squared error."""
    small = DropPrior(dm_coefficient_mm=0.9, dm_exponent=0.12)
    minutes = read_drop_minutes(_write(tmp_path / "site.npz", small, minutes=1500))
    found = compare_drops(minutes, "meiyu", DropPrior())
    for variables in ("ZH", "ZH, ZDR", "ZH, ZDR, KDP"):
        assert _gain(found, "measured", "measured", variables).rmse < _gain(found, "measured", "preset", variables).rmse


def test_a_variable_without_information_gives_no_gain(tmp_path):
    """ZDR and KDP of other minutes: a placebo. Its interval contains no gain above a few percent."""
    rng = np.random.default_rng(1)
    path = _write(tmp_path / "site.npz")
    with np.load(path) as content:
        arrays = dict(content)
    order = rng.permutation(len(arrays["rain"]))
    np.savez(path, **{**arrays, "zdr": arrays["zdr"][order], "kdp": arrays["kdp"][order]})
    found = compare_drops(read_drop_minutes(path), "meiyu", DropPrior())
    assert _gain(found, "measured", "measured", "ZH, ZDR").gain < 0.05


def test_days_are_the_blocks_if_there_are_enough(tmp_path):
    time = np.datetime64("2020-05-01T00:00:00") + np.arange(1500) * np.timedelta64(30, "m")
    minutes = read_drop_minutes(_write(tmp_path / "site.npz", time=time), least_mmh=0.5)
    assert 25 <= len(np.unique(minutes.block)) <= 32


def test_hail_and_splashes_are_left_out_and_counted(tmp_path):
    path = _write(tmp_path / "site.npz")
    with np.load(path) as content:
        arrays = {name: values.copy() for name, values in content.items()}
    arrays["rain"][:3], arrays["zh"][3:5] = 900.0, 70.0
    arrays["rain"][3:5] = 20.0
    np.savez(path, **arrays)
    minutes = read_drop_minutes(path)
    assert minutes.implausible == 5
    assert minutes.rain.max() < 250


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"zdr": np.zeros(3)}, "different lengths"),
        ({"zdr": np.array(["a"] * 1500)}, "one number for every minute"),
        ({"rain": np.full(1500, 0.2)}, "0 minutes of 1 mm/h"),
        ({"n": np.zeros((1500, 4))}, "spectra without diameter"),
        ({"n": np.zeros((1500, 4)), "d_center_mm": np.ones(3), "d_width_mm": np.ones(3)}, "of 3 diameters"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, changed, reason):
    with pytest.raises(BadInput, match=reason):
        read_drop_minutes(_write(tmp_path / "site.npz", **changed))


def test_a_missing_file_and_a_missing_variable_are_named(tmp_path):
    np.savez(tmp_path / "site.npz", rain=np.ones(300), zh=np.ones(300), kdp=np.ones(300))
    with pytest.raises(BadInput, match="no zdr"):
        read_drop_minutes(tmp_path / "site.npz")
    with pytest.raises(BadInput, match="can't be read"):
        read_drop_minutes(tmp_path / "none.npz")


@pytest.mark.real_data
def test_measured_spectra_allow_a_gain_and_have_the_published_rain(shared_data):
    site = read_drop_minutes(shared_data / "disdrometer_tmatrix" / "broadmeadows_jaya_C_10deg_20C.npz")
    gain = _gain(compare_drops(site, "meiyu", DropPrior()), "measured", "measured", "ZH, ZDR, KDP")
    assert gain.low > 0.2
    with np.load(shared_data / "dsd_locarno_2018" / "locarno2018_dsd_1min.npz") as content:
        rain, _ = observe_spectra(content["N"], content["D_center_mm"], content["D_width_mm"])
        published = content["R_from_dsd"]
    wet = published > 1
    assert np.median(rain[wet] / published[wet]) == pytest.approx(1, abs=0.02)

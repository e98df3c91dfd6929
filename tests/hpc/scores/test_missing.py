"""Missing pixels count in no score: neither their own values nor their place in the field matter."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polarcast.hpc.scores import arrays, classes, continuous, ensemble, fss, functional, similarity, spectra
from polarcast.hpc.scores.categorical import contingency, multi_event_contingency, pooled_contingency
from polarcast.hpc.scores.echo_change import CHANGES, change_of
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import FAMILIES, families, score_fields
from tests.support.fields import missing, rain

LEVELS = (1.0, 10.0)
MODULES = (arrays, classes, continuous, ensemble, fss, similarity, spectra)


def protocol(shape: tuple[int, int], members: int, unit: str = "mm/h") -> Protocol:
    return Protocol(unit, shape, members, threshold=LEVELS, window=(1, 3, 7), pool=(4, 6), quantile=(0.1, 0.8))


def fields(rng: np.random.Generator, members: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return ensembles (2, m, y, x) and observations (2, y, x) with many values at and below the thresholds."""
    shapes = (2, members, height, width), (2, height, width)
    forecast, observed = (np.round(rng.gamma(0.4, 10, shape)).astype(np.float32) for shape in shapes)
    return torch.from_numpy(forecast), torch.from_numpy(observed)


def assert_equal_sums(one: dict[str, Tensor], other: dict[str, Tensor], exact: bool = False) -> None:
    for name, sums in one.items():
        whole = not sums.is_floating_point()
        rtol, atol = (0, 0) if exact or whole else (1e-12, 1e-9)
        torch.testing.assert_close(other[name], sums, rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), members=st.sampled_from([1, 3]),
    height=st.integers(8, 21), width=st.integers(8, 21),
    top=st.sampled_from([0, 12, 24]), left=st.sampled_from([0, 12]), bottom=st.integers(0, 9), right=st.integers(0, 9),
)  # fmt: skip
def test_a_margin_without_observations_acts_like_the_outside(
    seed: int, members: int, height: int, width: int, top: int, left: int, bottom: int, right: int
) -> None:
    """Blocks of 4 and 6 pixels keep their place with margins of 12; a spectrum depends on the size of its field."""
    rng = np.random.default_rng(seed)
    forecast, observed = fields(rng, members, top + height + bottom, left + width + right)
    inner = (..., slice(top, top + height), slice(left, left + width))
    truth = torch.full_like(observed, torch.nan)
    truth[inner] = observed[inner]
    cropped = score_fields(forecast[inner], observed[inner], protocol((height, width), members))
    whole = score_fields(forecast, truth, protocol(tuple(observed.shape[1:]), members))
    for sums in (cropped, whole):
        sums["observed"] = sums["observed"][:, 1:]
        sums.pop("spectrum", None)
    assert_equal_sums(cropped, {name: whole[name] for name in cropped})
    assert whole.keys() >= cropped.keys()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), members=st.sampled_from([1, 4]), share=st.sampled_from([0.02, 0.4, 1.0]))
def test_values_at_missing_pixels_never_matter(seed: int, members: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    forecast, observed = fields(rng, members, 24, 24)
    gone = torch.from_numpy(rng.random(observed.shape) < share)
    truth = observed.masked_fill(gone, torch.nan)
    # Where there is no observation, the forecast may be anything, NaN included.
    other = torch.where(gone[:, None], torch.from_numpy(rng.choice([0.0, 99.0, math.nan], forecast.shape)), forecast)
    expected = score_fields(forecast, truth, protocol((24, 24), members))
    assert_equal_sums(expected, score_fields(other.float(), truth, protocol((24, 24), members)), exact=True)


def test_a_missing_forecast_is_a_missing_pixel_that_is_counted() -> None:
    forecast, observed = fields(np.random.default_rng(3), 3, 24, 24)
    gone = torch.rand(observed.shape, generator=torch.Generator().manual_seed(1)) < 0.2
    lacking = forecast.clone()
    lacking[:, 1][gone] = torch.nan  # of one member
    expected = score_fields(forecast, observed.masked_fill(gone, torch.nan), protocol((24, 24), 3))
    found = score_fields(lacking, observed, protocol((24, 24), 3))
    pixels, lost = torch.tensor(24 * 24), gone.sum((1, 2))
    assert torch.equal(expected.pop("observed"), torch.stack([pixels.expand(2), pixels - lost, pixels - lost], 1))
    assert torch.equal(found.pop("observed"), torch.stack([pixels.expand(2), pixels.expand(2), pixels - lost], 1))
    assert_equal_sums(expected, found, exact=True)


@pytest.mark.parametrize(("unit", "members"), [("mm/h", 1), ("dBZ", 4)])
def test_it_is_the_same_on_other_devices(unit: str, members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    forecast, observed = fields(np.random.default_rng(8), members, 32, 32)
    observed = missing(observed)
    observed[1, :, :20] = torch.nan
    compiled = score_fields(forecast, observed, protocol((32, 32), members, unit))
    assert compiled.keys() == families(protocol((32, 32), members, unit)).keys() - {"by_change"}
    for module in MODULES:
        monkeypatch.setattr(module, "on_cpu", lambda *_: False, raising=False)
    assert_equal_sums(compiled, score_fields(forecast, observed, protocol((32, 32), members, unit)))


def every_score(of: Protocol) -> list[str]:
    texts = []
    for name, metric in METRICS.items():
        at = {"threshold": "10", "window": "3", "pool": "4", "pooling": "average", "quantile": "0.8", "wavenumber": "3"}
        for family in (f for f in metric.families if f in families(of) and f != "by_change"):
            axes = [a for a in FAMILIES[family].axes if a in at and a not in metric.uses]
            texts.append(name + ("@" + ",".join(f"{a}={at[a]}" for a in axes) if axes else ""))
    return texts


def records(forecast: Tensor, observed: Tensor) -> Records:
    of = protocol(tuple(observed.shape[1:]), forecast.shape[1])
    sums = {name: s.double().numpy()[:, None, None] for name, s in score_fields(forecast, observed, of).items()}
    return Records.of_windows(of, np.arange(len(observed)), sums)


def test_every_score_of_a_field_without_observations_is_undefined_for_that_reason() -> None:
    forecast, observed = fields(np.random.default_rng(1), 3, 24, 24)
    found = records(forecast, torch.full_like(observed, torch.nan))
    for text in every_score(found.protocol):
        score = parse_score(text)
        sums = score.sums(found).sum(0)
        if score.name != "observed_share":
            assert np.isnan(score.of(sums, found.protocol)), text
            assert score.reason(sums, found.protocol), text
            assert score.name == "scored_share" or score.support(found).sum() == 0, text
    assert parse_score("observed_share").of(parse_score("observed_share").sums(found), found.protocol).tolist() == [
        0,
        0,
    ]


def test_a_field_without_observations_changes_no_score() -> None:
    forecast, observed = fields(np.random.default_rng(1), 3, 24, 24)
    observed[1] = torch.nan
    alone, both = records(forecast[:1], observed[:1]), records(forecast, observed)
    for text in every_score(both.protocol):
        score = parse_score(text)
        if score.name != "observed_share":
            values = (score.of(score.sums(of).sum(0), of.protocol) for of in (alone, both))
            np.testing.assert_array_equal(*values, err_msg=text)


class TestSingleFamilies:
    """Missing pixels by hand."""

    def test_a_block_of_missing_pixels_does_not_count(self) -> None:
        observed = torch.zeros(1, 4, 8)
        observed[:, :, 4:] = torch.nan
        observed[0, 0, 0] = torch.nan
        forecast = torch.where(observed.isnan(), torch.nan, 0.0)
        assert pooled_contingency(forecast, observed, [1.0], [4])[0, 0, 0].tolist() == [0, 0, 0, 1]

    def test_a_missing_event_is_no_near_hit(self) -> None:
        forecast, observed = torch.zeros(1, 1, 5), torch.zeros(1, 1, 5)
        forecast[..., 2], observed[..., 2], observed[..., 1] = 9, torch.nan, 9
        sums = score_fields(forecast[:, None], observed, Protocol("mm/h", (1, 5), threshold=(5.0,), window=(1,)))
        assert sums["contingency"][0, 0].tolist() == [0, 1, 0, 3]
        masked = forecast.masked_fill(observed.isnan(), torch.nan)
        assert multi_event_contingency(masked, observed, [5.0], [3])[0, 0, 0].tolist() == [0, 1, 0, 3]
        assert contingency(forecast, observed, [5.0])[0, 0].tolist() == [0, 1, 0, 3]

    def test_one_missing_pixel_loses_no_hit_of_the_papers_csi(self) -> None:
        observed = torch.tensor([[[10.0, 5.0], [math.nan, 0.0]]])
        forecast = torch.tensor([[[[9.0, 0.0], [4.0, 1.0]]]])
        sums = score_fields(forecast, observed, Protocol("mm/h", (2, 2)), ["paper_csi"])
        assert sums["paper_csi"].tolist() == [[1, 1, 0, 1]]

    def test_a_window_around_a_missing_pixel_has_no_fraction(self) -> None:
        forecast, observed = torch.zeros(1, 1, 3), torch.zeros(1, 1, 3)
        observed[..., 0], observed[..., 1] = 9, torch.nan
        # Fractions of 3 × 3 pixels at both ends: 0 and 1/9, 0 and 0.
        sums = fss.fractions(forecast, observed, [5.0], [3])[0, 0, 0]
        assert sums.tolist() == pytest.approx([1 / 81, 1 / 81])

    def test_a_spectrum_has_zeros_in_both_fields(self) -> None:
        forecast, observed = fields(np.random.default_rng(2), 1, 24, 24)
        observed = missing(observed)
        bands = score_fields(forecast, observed, protocol((24, 24), 1))["spectrum"]
        filled = forecast[:, 0].where(~observed.isnan(), 0), observed.nan_to_num()
        expected = torch.stack([spectra.spectrum(field) for field in filled], -1)
        torch.testing.assert_close(bands[:, 0, : expected.shape[1]], expected)

    def test_the_echo_area_is_a_share_of_the_observed_pixels(self) -> None:
        before, observed = torch.zeros(1, 10, 10), torch.zeros(1, 10, 10)
        before[0, 0], observed[0, :2] = 40, 40
        assert change_of(before, observed) == CHANGES.index("grows")
        observed[0, 1] = torch.nan
        assert change_of(before, observed) == CHANGES.index("steady")
        assert change_of(before, torch.full_like(observed, torch.nan)) == CHANGES.index("steady")


@pytest.mark.parametrize("name", ["rmse", "csi", "fss", "crps", "brier", "roc_area", "spread_skill", "ssim"])
def test_functions_leave_out_what_is_missing(name: str) -> None:
    forecast, observed = fields(np.random.default_rng(5), 4, 24, 30)
    truth = observed.clone()
    truth[:, :, 24:] = torch.nan
    more: dict[str, Any] = {
        "csi": {"threshold": 5}, "fss": {"threshold": 5, "window": 3}, "brier": {"threshold": 5, "member_dim": 1},
        "roc_area": {"threshold": 5, "member_dim": 1}, "crps": {"member_dim": 1}, "spread_skill": {"member_dim": 1},
        "ssim": {"data_range": 50},
    }.get(name, {})  # fmt: skip
    given_fields = (forecast, truth) if "member_dim" in more else (forecast[:, 0], truth)
    cropped = [field[..., :24] for field in given_fields]
    assert getattr(functional, name)(*given_fields, **more) == pytest.approx(
        getattr(functional, name)(*cropped, **more)
    )


def test_whole_fields_have_no_missing_pixels() -> None:
    forecast, observed = rain(1)[:, None], rain(2)
    sums = score_fields(forecast, observed, protocol((32, 32), 1), ["observed"])["observed"]
    assert (sums == 32 * 32).all()
    infinite = observed.clone()
    infinite[0, 0, :2] = torch.tensor([math.inf, -math.inf])  # add up to NaN
    assert torch.equal(score_fields(forecast, infinite, protocol((32, 32), 1), ["observed"])["observed"], sums)

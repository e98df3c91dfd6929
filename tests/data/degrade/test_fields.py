"""Perturbed fields: identity at neutral levels, exact biases, and the physics of noise, paths, beams and blocks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.degrade.batches import degrade_for_scores
from polarcast.data.degrade.fields import ADP_LAW, AH_LAW, BLOCKED_DB, STEPS
from polarcast.data.degrade.perturbation import KINDS, Perturbation
from polarcast.data.degrade.setup import RadarSetup
from polarcast.data.synth.drops import DropPrior
from polarcast.data.synth.scattering import observe_rain

SETUP = RadarSetup(1.0, {"zh": 0.8, "zdr": 0.2, "kdp": 0.25}, dict.fromkeys(("zh", "zdr", "kdp"), 1.0))
HEIGHTS = (1.0, 3.0, 7.0)
SIDE = 48


def batch_of(fields: dict[str, Tensor], frame: int = 0, event: int = 0) -> Batch:
    """Fields (t, z, y, x) by variable as a batch of one window."""
    radar = torch.stack(list(fields.values()), 1)[None]
    t, (y, x) = radar.shape[1], radar.shape[-2:]
    heights = HEIGHTS[: radar.shape[3]]
    where = torch.tensor([event]), torch.tensor([frame])
    return Batch(radar, torch.ones(1, t, y, x), *where, tuple(fields), heights)


def storm(side: int = SIDE, seed: int = 0) -> dict[str, Tensor]:
    """Random echo with gaps, the same gaps in all variables, weak echo below the floor among it."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(1, 3, side, side, generator=generator)

    is_echo = uniform(0, 1) < 0.7
    low, high = {"zh": 2.0, "zdr": 0.1, "kdp": 0.05}, {"zh": 55.0, "zdr": 3.0, "kdp": 4.0}
    return {name: torch.where(is_echo, uniform(low[name], high[name]), 0.0) for name in low}


def degraded(batch: Batch, text: str, setup: RadarSetup = SETUP) -> dict[str, Tensor]:
    found = degrade_for_scores(batch, Perturbation.parse(text), setup)
    assert found.rain is batch.rain
    return dict(zip(batch.variables, found.radar.unbind(2), strict=True))


def test_neutral_levels_return_the_same_batch() -> None:
    batch = batch_of(storm())
    for name, kind in KINDS.items():
        if kind.neutral is not None:
            assert degrade_for_scores(batch, Perturbation.parse(f"{name}={kind.neutral:g}"), SETUP) is batch


@pytest.mark.parametrize(
    "text", ["zdr_bias=0.4", "zh_bias=2", "zh_bias=-3", "noise=3", "kdp_smoothing=5", "attenuation=1", "blockage=0.6"]
)
def test_fill_stays_fill_and_a_key_gives_one_result(text: str) -> None:
    batch = batch_of(storm())
    found, again = degraded(batch, text), degraded(batch, text)
    for name in batch.variables:
        assert torch.equal(found[name], again[name])
        assert (found[name][batch.variable(name) == 0] == 0).all()
        assert torch.isfinite(found[name]).all()
    assert any(not torch.equal(found[name], batch.variable(name)) for name in batch.variables)


@settings(max_examples=15)
@given(st.floats(-10, 10), st.floats(-2, 2))
def test_biases_are_exact_where_echo_stays(zh_bias: float, zdr_bias: float) -> None:
    batch = batch_of(storm(16))
    found = degraded(batch, f"zh_bias={zh_bias!r},zdr_bias={zdr_bias!r}")
    zh, zdr = batch.variable("zh"), batch.variable("zdr")
    stays = (zh != 0) & ((zh + zh_bias >= SETUP.floor_dbz) | (zh < SETUP.floor_dbz))
    safe = stays & ((zh + zh_bias).abs() > 0.01) & ((zdr + zdr_bias).abs() > 0.01)
    torch.testing.assert_close(found["zh"][safe], zh[safe] + zh_bias, atol=1e-5, rtol=0)
    torch.testing.assert_close(found["zdr"][safe], zdr[safe] + zdr_bias, atol=1e-5, rtol=0)
    assert torch.equal(found["kdp"][stays], batch.variable("kdp")[stays])
    for field in found.values():  # what fell below the floor is lost in all variables
        assert (field[~stays] == 0).all()


def test_echo_that_would_become_fill_stays_echo() -> None:
    zh = torch.full((1, 1, 8, 8), 3.0)  # below the floor of the archive already
    found = degraded(batch_of({"zh": zh}), "zh_bias=-3")
    assert (found["zh"] != 0).all()
    assert found["zh"].abs().max() < 0.01


def test_noise_has_the_spread_that_multiplies_the_total() -> None:
    constant = {"zh": 45.0, "zdr": 1.0, "kdp": 2.0}
    fields = {name: torch.full((20, 3, SIDE, SIDE), value) for name, value in constant.items()}
    batch = batch_of(fields, frame=19)  # the last of 20 frames: earlier ones than the first are repetitions of it
    for factor in (1.5, 4.0):
        found = degraded(batch, f"noise={factor}")
        for name, value in constant.items():
            error = found[name] - value
            wanted = SETUP.noise[name] * np.sqrt(factor**2 - 1)
            assert float(error.std()) == pytest.approx(wanted, rel=0.02)
            assert float(error.mean()) == pytest.approx(0, abs=0.03 * wanted)
            inside = error[..., 1:-1, 1:-1]
            neighbors = float((inside[..., 1:] * inside[..., :-1]).mean() / inside.square().mean())
            assert neighbors == pytest.approx(4 / 6, abs=0.03)  # of [1, 2, 1], as in the synthetic storms
    independent = torch.corrcoef(torch.stack([(found[n] - constant[n]).flatten() for n in constant]))
    assert float((independent - torch.eye(3)).abs().max()) < 0.03


def test_noise_grows_in_weak_echo_as_in_the_archive() -> None:
    growing = replace(SETUP, noise_growth={"zh": 1.0, "zdr": 1.5, "kdp": 1.0})
    for zh, steps in ((38.0, 0), (28.0, 1), (10.0, 2.8)):
        fields = {"zh": torch.full((20, 1, SIDE, SIDE), zh), "zdr": torch.full((20, 1, SIDE, SIDE), 1.0)}
        error = degraded(batch_of(fields, frame=19), "noise=2", growing)["zdr"] - 1
        assert float(error.std()) == pytest.approx(0.2 * 3**0.5 * 1.5**steps, rel=0.03)


def test_noise_of_a_frame_does_not_depend_on_window_or_variables() -> None:
    fields = {name: torch.cat([field, field + 1]) for name, field in storm().items()}
    both = degraded(batch_of(fields), "noise=2")
    # A window of an estimate starts at its frame; one with context has earlier frames before it.
    last = {name: field[1:] for name, field in fields.items()}
    windowed = degrade_for_scores(batch_of(fields, frame=7), Perturbation.parse("noise=2"), SETUP)
    alone = degraded(batch_of(last, frame=7), "noise=2")
    zh_only = degraded(batch_of({"zh": last["zh"]}, frame=7), "noise=2")
    assert torch.equal(windowed.variable("zh")[:, 1:], alone["zh"])
    assert torch.equal(zh_only["zh"], alone["zh"])
    assert not torch.equal(both["zh"][:, 1:], alone["zh"])


def test_a_nowcast_sees_the_same_last_frame_twice_and_keeps_its_target() -> None:
    batch = batch_of({name: torch.cat([f, f + 1]) for name, f in storm().items()})
    target = torch.rand(1, 4, 3, SIDE, SIDE)
    last = batch.variable("zh")[:, -1]
    nowcast = replace(batch, rain=None, target_zh=target, last_zh=last)
    found = degrade_for_scores(nowcast, Perturbation.parse("noise=2,zh_bias=1,attenuation=1"), SETUP)
    assert found.target_zh is target
    assert torch.equal(found.last_zh, found.variable("zh")[:, -1])  # type: ignore[arg-type]
    without_zh = replace(nowcast, radar=nowcast.radar[:, :, 1:], variables=("zdr", "kdp"))
    again = degrade_for_scores(without_zh, Perturbation.parse("noise=2,zh_bias=1"), SETUP)
    expected = degrade_for_scores(nowcast, Perturbation.parse("noise=2,zh_bias=1"), SETUP)
    assert torch.equal(again.last_zh, expected.last_zh)  # type: ignore[arg-type]


def test_attenuation_follows_the_law_grows_with_range_and_with_its_share() -> None:
    zh = torch.full((1, 3, SIDE, SIDE), 45.0)
    batch = batch_of({"zh": zh, "zdr": torch.full_like(zh, 2.0)})
    center, z = SIDE // 2, 10**4.5
    found = degraded(batch, "attenuation=1")
    for name, before, law in (("zh", 45.0, AH_LAW), ("zdr", 2.0, ADP_LAW)):
        loss = before - found[name][0, 0]
        assert float(loss[0, center, center]) == 0
        for ray in (loss[0, center, center:], loss[0, center, : center + 1].flip(0), loss[1, center:, center]):
            expected = 2 * law[0] * z ** law[1] * torch.arange(len(ray))
            torch.testing.assert_close(ray, expected, atol=2e-4, rtol=1e-3)
        assert (loss[2] == 0).all()  # ice
        half = before - degraded(batch, "attenuation=0.5")[name][0, 0]
        torch.testing.assert_close(2 * half, loss, atol=2e-5, rtol=1e-4)


def test_attenuation_is_of_rain_between_the_radar_and_the_pixel() -> None:
    zh = torch.zeros(1, 1, SIDE, SIDE)
    center = SIDE // 2
    zh[..., center - 1 : center + 2, center + 5 : center + 8] = 50.0  # a cell to the east
    zh[..., center - 1 : center + 2, center + 15] = 30.0  # behind it
    zh[..., center - 1 : center + 2, center - 15] = 30.0  # on the other side
    loss = zh - degraded(batch_of({"zh": zh}), "attenuation=1")["zh"][0]
    through = 2 * 3 * AH_LAW[0] * 10 ** (5 * AH_LAW[1])
    assert float(loss[0, 0, center, center + 15]) == pytest.approx(through, rel=1e-3)
    assert float(loss[0, 0, center, center - 15]) == 0


def test_attenuation_law_is_that_of_the_drop_sizes() -> None:
    rng = np.random.default_rng(0)
    rain, drops = np.exp(rng.uniform(np.log(0.3), np.log(120), 20_000)), DropPrior()
    dm = drops.dm(rain, rng.normal(0, 0.2, rain.size))
    seen = observe_rain(dm, drops.mu(dm, np.exp(rng.normal(np.log(0.31), 0.15, rain.size))), rain)
    for rate, (a, b) in ((seen.ah, AH_LAW), (seen.adp, ADP_LAW)):
        for low in range(20, 55, 5):
            inside = (seen.zh >= low) & (seen.zh < low + 5)
            assert float((a * 10 ** (b * seen.zh[inside] / 10)).mean()) == pytest.approx(
                float(rate[inside].mean()), rel=0.15
            )
    assert float(seen.ah[seen.zh > 30].sum() / seen.kdp[seen.zh > 30].sum()) == pytest.approx(0.08, abs=0.01)


def test_blockage_takes_power_from_a_share_of_the_azimuths_at_the_lowest_height() -> None:
    batch = batch_of({"zh": torch.full((1, 3, 96, 96), 40.0), "zdr": torch.full((1, 3, 96, 96), 1.0)})
    before = torch.zeros(96, 96, dtype=torch.bool)
    for share in (0.1, 0.25, 0.5, 1.0):
        found = degraded(batch, f"blockage={share}")
        loss = 40 - found["zh"][0, 0]
        blocked = loss[0] > 0
        assert float(blocked.float().mean()) == pytest.approx(share, abs=0.02)
        torch.testing.assert_close(loss[0][blocked], torch.full((int(blocked.sum()),), BLOCKED_DB), atol=1e-4, rtol=0)
        assert (blocked | ~before).all()  # sectors grow
        assert (loss[1:] == 0).all()
        assert torch.equal(found["zdr"], batch.variable("zdr"))
        before = blocked


def test_coarser_blocks_conserve_power_and_average_the_others_over_echo() -> None:
    fields = storm()
    fields["zh"] = torch.where(fields["zh"] == 0, 0.0, fields["zh"].clamp(min=25))  # stays above the floor
    batch = batch_of(fields)
    for block in (2, 4):
        found = degraded(batch, f"resolution={block}")
        power = [torch.where(zh == 0, 0.0, 10 ** (zh / 10)) for zh in (batch.variable("zh"), found["zh"])]
        blocks = [p.unfold(-2, block, block).unfold(-2, block, block).mean((-2, -1)) for p in power]
        torch.testing.assert_close(blocks[0], blocks[1], rtol=1e-4, atol=1e-2)
        corner, zdr = found["zdr"][0, 0, 0, :block, :block], fields["zdr"][0, 0, :block, :block]
        assert (corner == corner[0, 0]).all()
        assert float(corner[0, 0]) == pytest.approx(float(zdr[zdr != 0].mean()), rel=1e-5)
        assert found["zh"].shape == batch.variable("zh").shape


def test_coarser_blocks_at_the_edge_of_a_grid_that_they_do_not_divide() -> None:
    found = degraded(batch_of({"zh": torch.full((1, 1, 10, 10), 30.0)}), "resolution=4")
    torch.testing.assert_close(found["zh"], torch.full((1, 1, 1, 10, 10), 30.0))


def test_kdp_is_averaged_along_the_ray_only() -> None:
    kdp = torch.zeros(1, 1, SIDE, SIDE)
    center = SIDE // 2
    kdp[..., center, center + 3 : center + 18] = 1.0
    kdp[..., center, center + 10] = 6.0
    kdp[..., center - 1, center + 3 : center + 18] = 9.0
    found = degraded(batch_of({"kdp": kdp}), "kdp_smoothing=5")["kdp"][0, 0, 0, center]
    assert float(found[center + 10]) == pytest.approx(2.0)
    assert float(found[center + 12]) == pytest.approx(2.0)
    assert float(found[center + 13]) == pytest.approx(1.0)
    assert float(found[center + 3]) == pytest.approx(1.0)  # fill does not count
    assert float(found[center + 18]) == 0


def test_lost_variable_and_height() -> None:
    batch = batch_of(storm())
    found = degraded(batch, "lost=zdr")
    assert (found["zdr"] == 0).all()
    assert torch.equal(found["zh"], batch.variable("zh"))
    found = degraded(batch, "lost_height=3")
    for name, field in found.items():
        assert (field[:, :, 1] == 0).all()
        assert torch.equal(field[:, :, [0, 2]], batch.variable(name)[:, :, [0, 2]])


def test_a_placebo_is_perturbed_alike() -> None:
    """ZDR of another event keeps its own echo, and gets what ZDR of this event gets."""
    own, donor = storm(seed=1), storm(seed=2)
    batch = batch_of({"zh": own["zh"], "zdr": donor["zdr"]})
    found = degraded(batch, "zdr_bias=0.3")
    assert torch.equal(found["zdr"] != 0, donor["zdr"][None] != 0)
    torch.testing.assert_close(found["zdr"][0][donor["zdr"] != 0], donor["zdr"][donor["zdr"] != 0] + 0.3)
    noisy, alike = degraded(batch, "noise=2"), degraded(batch_of({"zh": own["zh"], "zdr": own["zdr"]}), "noise=2")
    both = (noisy["zdr"] != 0) & (alike["zdr"] != 0)
    torch.testing.assert_close(
        (noisy["zdr"][0] - donor["zdr"])[both[0]], (alike["zdr"][0] - own["zdr"])[both[0]], atol=1e-5, rtol=0
    )
    assert torch.equal(noisy["zh"], alike["zh"])


def test_every_kind_has_a_step() -> None:
    assert list(STEPS) == list(KINDS)

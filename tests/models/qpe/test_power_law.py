import numpy as np
import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.models.forecaster import InputSpec
from polarcast.models.qpe.power_law import PowerLaw, PowerLawConfig


def make_batch(zh: torch.Tensor, zdr: torch.Tensor | None = None, rain: torch.Tensor | None = None) -> Batch:
    fields = [zh] if zdr is None else [zh, zdr]
    radar = torch.stack(fields)[None, None, :, None].float()
    variables = ("zh",) if zdr is None else ("zh", "zdr")
    target = torch.zeros(1, 1, *zh.shape) if rain is None else rain[None, None].float()
    return Batch(radar, target, torch.zeros(1), torch.zeros(1), variables, (1.0,))


def make_law(batch: Batch, coefficients: str = "published") -> PowerLaw:
    return PowerLaw(PowerLawConfig(coefficients=coefficients), InputSpec(batch.variables, batch.heights_km))


@pytest.mark.parametrize("rain", [1.0, 10.0, 50.0])
def test_marshall_palmer_is_inverted(rain: float) -> None:
    batch = make_batch(torch.full((2, 2), 10 * np.log10(200 * rain**1.6)))
    assert make_law(batch).forecast(batch).flatten().tolist() == pytest.approx([rain] * 4, rel=1e-5)


def test_published_dual_pol_law() -> None:
    batch = make_batch(torch.full((1, 1), 40.0), torch.full((1, 1), 1.5))
    assert float(make_law(batch).forecast(batch)) == pytest.approx(0.0058 * 1e4**0.91 * 10 ** (-0.209 * 1.5), rel=1e-5)


def test_no_echo_gives_no_rain_and_hail_is_capped() -> None:
    batch = make_batch(torch.tensor([[0.0, 55.0, 80.0]]))
    dry, capped, hail = make_law(batch).forecast(batch).flatten().tolist()
    assert dry == 0
    assert hail == capped > 50


def test_the_fit_recovers_a_known_law() -> None:
    generator = torch.Generator().manual_seed(1)
    zh = 10 + 40 * torch.rand(100, 100, generator=generator)
    zdr = 3 * torch.rand(100, 100, generator=generator)
    rain = 0.02 * 10 ** (0.7 * zh / 10 - 0.2 * zdr)
    batch = make_batch(zh, zdr, rain)
    law = make_law(batch, "fitted")
    law.fit([batch] * 8)
    assert law.coefficients.tolist() == pytest.approx([0.02, 0.7, -0.2], rel=1e-3)


def test_a_fit_without_zdr_uses_reflectivity_alone() -> None:
    zh = torch.linspace(10, 50, 400).reshape(20, 20)
    batch = make_batch(zh, rain=0.03 * 10 ** (0.65 * zh / 10))
    law = make_law(batch, "fitted")
    law.fit([batch] * 4)
    assert law.coefficients.tolist() == pytest.approx([0.03, 0.65, 0.0], rel=1e-3)


def test_published_coefficients_are_never_fitted() -> None:
    batch = make_batch(torch.full((4, 4), 30.0), rain=torch.full((4, 4), 99.0))
    law = make_law(batch)
    before = law.coefficients.clone()
    law.fit([batch])
    assert torch.equal(law.coefficients, before)

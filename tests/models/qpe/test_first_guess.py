from dataclasses import replace

import numpy as np
import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import RAIN_TRANSFORMS
from polarcast.models.diffusion.conditional import (
    CombinedDiffusion,
    CombinedDiffusionConfig,
    Diffusion,
    DiffusionConfig,
)
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.qpe.power_law import PowerLaw, PowerLawConfig
from polarcast.models.qpe.unet import UNet, UNetConfig
from polarcast.models.qpe.wf_unet import WFUNet, WFUNetConfig

INPUTS = InputSpec(("zh", "zdr"), (1.0, 3.0))
RADAR = InputSpec(("zh",), (1.0, 3.0))


def make_batch(inputs: InputSpec = INPUTS, frames: int = 1) -> Batch:
    """Return rain that a power law of the lowest height gives exactly, and noise aloft."""
    generator = torch.Generator().manual_seed(3)
    radar = torch.rand(4, frames, 2, 2, 16, 16, generator=generator) * torch.tensor([45.0, 2.0])[:, None, None, None]
    rain = 0.02 * 10 ** (0.07 * radar[:, :, 0, 0] - (0.2 * radar[:, :, 1, 0] if "zdr" in inputs.variables else 0))
    window = torch.arange(4)
    chosen = radar[:, :, : len(inputs.variables)]
    return Batch(chosen, rain, window, window, inputs.variables, inputs.heights_km)


def make_network(name: str, inputs: InputSpec = INPUTS, transform: str = "log1p") -> Forecaster:
    torch.manual_seed(0)
    if name == "unet":
        return UNet(UNetConfig(widths=[4, 6], first_guess="power_law", rain_transform=transform), inputs)
    if name == "wf_unet":
        return WFUNet(WFUNetConfig(widths=[4, 6], first_guess="power_law", rain_transform=transform), inputs)
    if name == "diffusion":
        return Diffusion(DiffusionConfig([8, 8], steps=2, first_guess="power_law", rain_transform=transform), inputs)
    config = CombinedDiffusionConfig([8, 8], steps=2, first_guess="power_law", rain_transform=transform)
    return CombinedDiffusion(config, inputs)


def fitted_law(batch: Batch, inputs: InputSpec) -> PowerLaw:
    law = PowerLaw(PowerLawConfig("fitted"), inputs)
    law.fit([batch] * 4)
    return law


@pytest.mark.parametrize("transform", RAIN_TRANSFORMS)
@pytest.mark.parametrize("inputs", [INPUTS, RADAR], ids=["dualpol", "radar"])
@pytest.mark.parametrize("name", ["unet", "wf_unet"])
def test_without_a_correction_a_network_forecasts_the_fitted_law(name: str, inputs: InputSpec, transform: str) -> None:
    batch = make_batch(inputs, frames=2)
    network = make_network(name, replace(inputs, frames=2), transform)
    network.fit([batch] * 4)
    assert isinstance(network, UNet | WFUNet)
    torch.nn.init.zeros_(network.net.head.weight)
    torch.nn.init.zeros_(network.net.head.bias)  # type: ignore[arg-type]
    expected = fitted_law(batch, inputs).forecast(batch)[:, :, -1:]
    torch.testing.assert_close(network.forecast(batch), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(expected[:, 0], batch.rain_rate[:, -1:], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["unet", "wf_unet"])
def test_a_network_corrects_its_first_guess(name: str) -> None:
    batch = make_batch()
    biased = replace(batch, rain=1.5 * batch.rain_rate)
    network = make_network(name)
    network.fit([batch])
    first = float(network.loss(biased).detach())
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        network.loss(biased).backward()
        optimizer.step()
    assert float(network.loss(biased).detach()) < 0.5 * first


@pytest.mark.parametrize("transform", RAIN_TRANSFORMS)
@pytest.mark.parametrize("name", ["diffusion", "combined"])
def test_a_diffusion_diffuses_the_difference_from_its_first_guess(name: str, transform: str) -> None:
    batch = make_batch()
    wrong = replace(batch, rain=2 * batch.rain_rate)
    model = make_network(name, transform=transform)
    assert isinstance(model, Diffusion)
    assert model.first_guess
    model.fit([wrong])
    guess, target = model.first_guess(wrong), model.target(wrong)
    assert float(target.mean()) == pytest.approx(0, abs=1e-4)
    assert float(target[:, :1].std()) == pytest.approx(1, abs=1e-2)
    rain = model.space.rain_rate(guess + model.standard.restore(target))
    torch.testing.assert_close(rain[:, :1], wrong.rain_rate, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(rain[:, :1], rain[:, -1:])
    torch.testing.assert_close(model.condition(wrong)[:, -1:], model.first_guess.channel(guess))


def test_samples_of_an_exact_first_guess_are_the_first_guess() -> None:
    batch = make_batch()
    model = make_network("diffusion")
    assert isinstance(model, Diffusion)
    model.fit([batch] * 4)
    np.testing.assert_allclose(model.forecast(batch)[:, 0].numpy(), batch.rain_rate.numpy(), rtol=0.02, atol=0.02)


def test_saved_weights_include_the_fitted_law() -> None:
    batch, network, again = make_batch(), make_network("unet"), make_network("unet")
    network.fit([batch])
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again.forecast(batch), network.forecast(batch), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["unet", "wf_unet", "diffusion", "combined"])
def test_a_first_guess_without_reflectivity_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="the power law needs zh"):
        make_network(name, InputSpec(("zdr",), (1.0,)))

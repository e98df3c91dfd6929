"""Views of the radar fields as further channels of the QPE networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import RANGES
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.estimate import count
from polarcast.models.common.views import FEATURES, FeaturesConfig, views_per_field, with_features
from polarcast.models.forecaster import Forecaster, InputSpec, parameter_count
from polarcast.models.qpe.unet import UNet, UNetConfig

ALL = ["edges", "gradients", "stretch"]
INPUTS = InputSpec(("zh", "zdr"), (1.0, 3.0, 7.0))
MODELS = ("unet", "wf_unet", "diffusion", "combined_diffusion")


def make_batch(frames: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(0)
    radar = torch.rand(2, frames, 2, 3, 16, 16, generator=generator) * torch.tensor([45.0, 2.0])[:, None, None, None]
    rain = 0.02 * 10 ** (0.07 * radar[:, :, 0, 0])
    window = torch.arange(2)
    return Batch(radar, rain, window, window, INPUTS.variables, INPUTS.heights_km, sample_index=window)


def make_model(name: str, *words: str) -> Forecaster:
    settings = ["model.widths=[4,8]", f"model.name={name}", "model.features=[edges,gradients,stretch]", *words]
    return build_model(resolve(load_config("demo", settings)))


def test_channels_are_the_fields_and_then_each_view_of_them() -> None:
    """Held against NumPy and SciPy, channel by channel, as the first layer of the network receives them."""
    batch = make_batch()
    net = UNet(UNetConfig(widths=[4, 8], features=ALL), INPUTS)
    seen: list[torch.Tensor] = []
    net.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net.forecast(batch)
    found = seen[0].unflatten(1, (1 + 1 + 2 + 1, 6)).double().numpy()
    scaled = np.stack(
        [(batch.radar[:, 0, v].double() - RANGES[n][0]) / np.ptp(RANGES[n]) for v, n in enumerate(INPUTS.variables)], 1
    ).reshape(2, 6, 16, 16)
    along = {axis: np.gradient(scaled, axis=axis) for axis in (-2, -1)}
    edge = np.array([[sum(sobel(f, a, mode="nearest") for a in (0, 1)) / 2 for f in fields] for fields in scaled])
    stretched = np.interp(scaled, [0, 0.3, 0.7, 1], [0, 0.15, 0.85, 1])
    for channel, expected in enumerate((scaled, edge, along[-2], along[-1], stretched)):
        np.testing.assert_allclose(found[:, channel], expected, atol=1e-5)


def test_views_are_in_the_order_of_the_setting_and_none_are_added_by_default() -> None:
    radar = make_batch(frames=2).radar
    assert with_features(radar, FeaturesConfig()) is radar
    both, swapped = (with_features(radar, FeaturesConfig(f)) for f in (["edges", "stretch"], ["stretch", "edges"]))
    torch.testing.assert_close(both[:, :2], radar)
    torch.testing.assert_close(both[:, 2:4], swapped[:, 4:])
    assert [views_per_field(FeaturesConfig(f)) for f in ([], *([name] for name in FEATURES), ALL)] == [1, 2, 3, 2, 5]


@pytest.mark.parametrize("first_guess", ["none", "power_law"])
@pytest.mark.parametrize("name", MODELS)
def test_models_with_features_learn_from_all_channels_and_reload(name: str, first_guess: str) -> None:
    batch, model = make_batch(), make_model(name, f"model.first_guess={first_guess}")
    model.fit([batch])
    first = float(model.loss(batch).detach())
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(12):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < first
    weight = next(p for n, p in model.named_parameters() if n.endswith("stem.weight"))
    assert weight.grad is not None
    assert (weight.grad.abs().sum((0, 2, 3)) > 0).all(), "a channel has no influence"
    copy = make_model(name, f"model.first_guess={first_guess}", "seed=1")
    copy.load_state_dict(model.state_dict())
    torch.testing.assert_close(copy.eval().forecast(batch), model.eval().forecast(batch), rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_arms_with_features_have_equal_parameters_and_flops(name: str) -> None:
    words = [f"model.name={name}", "model.features=[edges,gradients,stretch]", "model.widths=[16,32,48]"]
    radar, dualpol = (resolve(load_config("demo", [*words, f"arm={arm}"])) for arm in ("radar", "dualpol"))
    one, other = count(radar, (32, 32)), count(dualpol, (32, 32))
    assert parameter_count(build_model(radar)) == pytest.approx(parameter_count(build_model(dualpol)), rel=0.01)
    # The streams of WF-UNet differ in number between arms.
    assert one.flops == pytest.approx(other.flops, rel=0.25 if name == "wf_unet" else 0.05)


def test_context_frames_have_views_of_their_own() -> None:
    model = make_model("unet", "data.context=1")
    stem = next(p for n, p in model.named_parameters() if n.endswith("stem.weight"))
    assert stem.shape[1] == 5 * 2 * 6
    assert model.forecast(make_batch(frames=2)).shape == (2, 1, 1, 16, 16)


def test_the_default_keeps_the_digest_and_features_change_it() -> None:
    plain = load_config("demo")
    assert digest(plain) == digest(load_config("demo", ["model.features=[]"]))
    assert digest(plain) != digest(load_config("demo", ["model.features=[edges]"]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[fog]", "model.features: unknown value 'fog'; choose from: edges, gradients, stretch"),
        ("[raw]", "model.features: unknown value 'raw'"),
        ("[edges,edges]", "model.features: has 'edges' more than once"),
        ("edges", "model.features: got 'edges'"),
    ],
)
def test_bad_features_are_one_line(value: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_config("demo", [f"model.features={value}"])
    assert str(caught.value).replace(" — ", "; ").startswith(message)
    assert "\n" not in str(caught.value)


def test_features_of_one_window_do_not_depend_on_the_others() -> None:
    batch, model = make_batch(), make_model("unet")
    alone = replace(
        batch, radar=batch.radar[:1], rain=batch.rain_rate[:1], event=batch.event[:1], frame=batch.frame[:1]
    )
    alone = replace(alone, sample_index=None)
    torch.testing.assert_close(model.forecast(batch)[:1], model.forecast(alone))

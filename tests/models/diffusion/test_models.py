import ast
import copy
import io
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models import diffusion
from polarcast.models.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from polarcast.models.diffusion.conditional import (
    CombinedDiffusion,
    CombinedDiffusionConfig,
    Diffusion,
    DiffusionConfig,
)
from polarcast.models.diffusion.generative import Generative
from polarcast.models.diffusion.latent import LatentDiffusion, LatentDiffusionConfig
from polarcast.models.diffusion.post_process import MemberMean, MemberMeanConfig, PostProcess, PostProcessConfig
from polarcast.models.diffusion.random_numbers import forecast_keys, mix
from polarcast.models.diffusion.residual import ResidualDiffusion, ResidualDiffusionConfig
from polarcast.models.diffusion.samplers import Sampler
from polarcast.models.forecaster import Forecaster, InputSpec, parameter_count
from polarcast.models.qpe.unet import UNet, UNetConfig

Train = Callable[[Forecaster, Batch, int], tuple[float, float]]
WIDTHS = [16, 24]
MODELS = ("diffusion", "combined", "latent", "residual", "mean", "post", "post_combined", "autoencoder")
GENERATIVE = MODELS[:4]
WITH_BASE = ("latent", "residual", "post", "post_combined")


def make_diffusion(inputs: InputSpec, **settings: object) -> Diffusion:
    return Diffusion(DiffusionConfig(widths=WIDTHS, steps=4, **settings), inputs)  # type: ignore[arg-type]


def make_model(name: str, inputs: InputSpec, bases: dict[str, Forecaster] | None = None) -> Forecaster:
    """Return an untrained model, around copies of the given bases or around untrained ones."""

    def base(kind: str) -> Forecaster:
        return copy.deepcopy(bases[kind]) if bases else make_base(kind, inputs)

    torch.manual_seed(0)
    if name == "diffusion":
        return make_diffusion(inputs)
    if name == "combined":
        return CombinedDiffusion(CombinedDiffusionConfig(widths=WIDTHS, steps=4), inputs)
    if name == "latent":
        return LatentDiffusion(LatentDiffusionConfig(widths=WIDTHS, steps=4), inputs, base("autoencoder"))
    if name == "residual":
        return ResidualDiffusion(ResidualDiffusionConfig(widths=WIDTHS, steps=4), inputs, base("unet"))
    if name == "mean":
        return MemberMean(MemberMeanConfig(samples=2), inputs, base("diffusion"))
    if name == "post":
        return PostProcess(PostProcessConfig(widths=[8, 12], samples=2), inputs, base("diffusion"))
    if name == "post_combined":
        return PostProcess(PostProcessConfig(widths=[8, 12]), inputs, base("combined"))
    return make_base(name, inputs)


def make_base(kind: str, inputs: InputSpec) -> Forecaster:
    if kind == "autoencoder":
        return Autoencoder(AutoencoderConfig(widths=[16, 24], latent_channels=4), inputs)
    if kind == "unet":
        return UNet(UNetConfig(widths=[6, 8]), inputs)
    return make_model(kind, inputs)


def randomized(model: Forecaster) -> Forecaster:
    """Replace zero-initialized weights by random ones: zeros would hide dependencies."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for n, b in model.named_buffers() if n.endswith(("weight", "bias")))]:
            if not tensor.any():
                tensor.copy_(0.05 * torch.randn(tensor.shape, generator=generator))
    return model.eval()


def subset(batch: Batch, chosen: list[int]) -> Batch:
    rain = batch.rain_rate[chosen]
    return replace(
        batch,
        radar=batch.radar[chosen],
        rain=rain,
        event=batch.event[chosen],
        frame=batch.frame[chosen],
        sample_index=None,
    )


def correlation(model: Forecaster, batch: Batch, members: int = 1) -> float:
    forecast = model.forecast(batch, members).detach().mean(1)
    return float(np.corrcoef(forecast.flatten(), batch.rain_rate.flatten())[0, 1])


@pytest.fixture(scope="module")
def bases(inputs: InputSpec, storms: Batch, train: Train) -> dict[str, Forecaster]:
    """Base models trained on the storms."""
    steps = {"diffusion": 200, "combined": 200, "autoencoder": 60, "unet": 60}
    trained = {kind: make_base(kind, inputs) for kind in steps}
    for kind, model in trained.items():
        before, after = train(model, subset(storms, [0, 1]), steps[kind])
        assert after < 0.5 * before
    return {kind: model.eval() for kind, model in trained.items()}


@pytest.mark.parametrize("kind", ["diffusion", "combined", "autoencoder"])
def test_models_overfit_one_batch(kind: str, bases: dict[str, Forecaster], storms: Batch) -> None:
    assert correlation(bases[kind], subset(storms, [0, 1])) > 0.9


@pytest.mark.parametrize(
    ("name", "steps", "share"),
    [("latent", 110, 0.8), ("residual", 90, 0.6), ("post", 80, 0.5), ("post_combined", 80, 0.6)],
)
def test_models_with_a_base_overfit_one_batch_and_keep_the_base(
    name: str, steps: int, share: float, bases: dict[str, Forecaster], storms: Batch, inputs: InputSpec, train: Train
) -> None:
    model = make_model(name, inputs, bases)
    base = {k: v.clone() for k, v in model.state_dict().items() if k.startswith("base.")}
    assert not any(n.startswith("base.") for n, _ in model.named_parameters())
    two = subset(storms, [0, 1])
    if isinstance(model, PostProcess):  # a poor sampler leaves errors to correct
        model.base.denoising.sampler = Sampler("ddim", 1)
    before, after = train(model, two, steps)
    assert after < share * before
    assert correlation(model.eval(), two) > 0.9
    assert base
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in base.items())


@pytest.mark.parametrize("prediction", ["eps", "edm"])
def test_other_predictions_reduce_the_loss(prediction: str, inputs: InputSpec, storms: Batch, train: Train) -> None:
    torch.manual_seed(0)
    before, after = train(make_diffusion(inputs, prediction=prediction), subset(storms, [0, 1]), 60)
    assert after < 0.75 * before


@pytest.mark.parametrize("name", MODELS)
def test_forecast_does_not_depend_on_the_batch(name: str, inputs: InputSpec, storms: Batch) -> None:
    model = randomized(make_model(name, inputs))
    whole, part = (model.forecast(batch, 2, seed=1) for batch in (storms, subset(storms, [2, 0])))
    assert whole.shape[2:] == (1, 16, 16)
    assert (whole >= 0).all()
    torch.testing.assert_close(whole[[2, 0]], part, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in MODELS if n != "autoencoder"])
def test_seeds_and_members_are_distinct_and_reproducible(name: str, inputs: InputSpec, storms: Batch) -> None:
    model = randomized(make_model(name, inputs))
    first, again, other = (model.forecast(storms, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:, 0], first[:, 1])


@pytest.mark.parametrize("name", [n for n in MODELS if n != "autoencoder"])
def test_forecast_depends_on_radar_and_not_on_the_target(name: str, inputs: InputSpec, storms: Batch) -> None:
    model = randomized(make_model(name, inputs))
    forecast = model.forecast(storms)
    assert not torch.allclose(forecast, model.forecast(replace(storms, radar=0 * storms.radar)))
    assert torch.equal(forecast, model.forecast(replace(storms, rain=1 + storms.rain_rate)))


@pytest.mark.parametrize("name", [n for n in MODELS if n != "mean"])
def test_micro_batch_losses_average_to_the_batch_loss(name: str, inputs: InputSpec, storms: Batch) -> None:
    model = randomized(make_model(name, inputs))
    with torch.no_grad():
        parts = [model.loss(subset(storms, chosen)) for chosen in ([0, 1], [2, 3])]
        torch.testing.assert_close(model.loss(storms), (parts[0] + parts[1]) / 2)


@pytest.mark.parametrize("name", MODELS)
def test_loaded_model_gives_the_same_forecast(name: str, inputs: InputSpec, storms: Batch) -> None:
    model, saved = randomized(make_model(name, inputs)), io.BytesIO()
    model.fit([storms])
    torch.save(model.state_dict(), saved)
    saved.seek(0)
    other = make_model(name, inputs)
    other.load_state_dict(torch.load(saved))
    assert torch.equal(model.forecast(storms), other.eval().forecast(storms))


@pytest.mark.parametrize("name", GENERATIVE)
def test_fit_standardizes_the_diffused_fields(name: str, inputs: InputSpec, storms: Batch) -> None:
    model = make_model(name, inputs)
    assert isinstance(model, Generative)
    model.fit([subset(storms, [0]), subset(storms, [1, 2, 3])])
    diffused = model.target(storms).detach().double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(diffused.mean(1), torch.zeros_like(diffused[:, 0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(diffused.std(1, correction=0), torch.ones_like(diffused[:, 0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", GENERATIVE)
def test_validation_loss_is_reproducible_and_averages_over_micro_batches(
    name: str, inputs: InputSpec, storms: Batch
) -> None:
    model = randomized(make_model(name, inputs))
    score = model.validation_loss(storms)
    assert score.shape == ()
    assert torch.equal(score, model.validation_loss(storms))
    parts = [model.validation_loss(subset(storms, chosen)) for chosen in ([0, 1], [2, 3])]
    torch.testing.assert_close(score, (parts[0] + parts[1]) / 2)


def test_collapsed_model_logs_one_warning(inputs: InputSpec, storms: Batch, caplog: pytest.LogCaptureFixture) -> None:
    model = make_diffusion(inputs)
    model.standard.mean.fill_(-50.0)
    with caplog.at_level(logging.WARNING, "polarcast"):
        model.validation_loss(storms)
        model.validation_loss(storms)
    assert [r.getMessage() for r in caplog.records] == ["Diffusion: generated rain is zero everywhere"]


def test_guidance_of_zero_has_no_effect_and_guidance_doubles_evaluations(inputs: InputSpec, storms: Batch) -> None:
    plain = randomized(make_diffusion(inputs))
    weights = plain.state_dict()
    zero, guided = (make_diffusion(inputs, guidance=scale, drop=0.1) for scale in (0.0, 2.0))
    zero.load_state_dict(weights)
    guided.load_state_dict(weights)
    assert torch.equal(plain.forecast(storms), zero.forecast(storms))
    assert not torch.allclose(plain.forecast(storms), guided.forecast(storms))
    assert (zero.evaluations, guided.evaluations) == (4, 8)


def test_combined_fields_are_distinct_and_averaged(inputs: InputSpec, storms: Batch) -> None:
    model = randomized(make_model("combined", inputs))
    assert isinstance(model, CombinedDiffusion)
    fields = model.fields(storms, seed=3)
    assert fields.shape == (4, 3, 16, 16)
    assert not torch.allclose(fields[:, 0], fields[:, 1])
    torch.testing.assert_close(fields.mean(1), model.forecast(storms, seed=3)[:, 0, 0])


def test_member_mean_averages_the_members_of_the_base(inputs: InputSpec, storms: Batch) -> None:
    base = randomized(make_diffusion(inputs))
    members = base.forecast(storms, 4)
    model = MemberMean(MemberMeanConfig(samples=2), inputs, base)
    torch.testing.assert_close(
        model.forecast(storms, 2), torch.stack([members[:, :2].mean(1), members[:, 2:].mean(1)], 1)
    )
    assert parameter_count(model) == 0
    assert model.evaluations == 8


def test_untrained_post_processing_returns_the_mean_of_the_samples(inputs: InputSpec, storms: Batch) -> None:
    model = make_model("post_combined", inputs)
    assert isinstance(model, PostProcess)
    samples = model.base.make(
        storms, [mix(key, 0) for key in forecast_keys(storms, 5, 0)], model.base.denoising.sampler
    )
    mean = model.space.rain_rate(model.space(samples).mean(1, keepdim=True))
    torch.testing.assert_close(model.forecast(storms, seed=5)[:, 0], mean)


@pytest.mark.parametrize("name", MODELS)
def test_loss_runs_on_the_meta_device(name: str, inputs: InputSpec) -> None:
    with torch.device("meta"):
        model = make_model(name, inputs)
        number = torch.zeros(1, dtype=torch.int64)
        radar, rain = torch.zeros(1, 1, 2, 3, 16, 16), torch.zeros(1, 1, 16, 16)
        batch = Batch(radar, rain, number, number, inputs.variables, inputs.heights_km)
    if name != "mean":
        model.loss(batch).backward()


@pytest.mark.parametrize("widths", [[1], [13], [7, 13], [5, 1, 3]])
def test_denoiser_supports_any_widths(widths: list[int], inputs: InputSpec, storms: Batch) -> None:
    model = Diffusion(DiffusionConfig(widths=widths, steps=1), inputs)
    model.loss(storms).backward()
    assert model.forecast(storms).shape == (4, 1, 1, 16, 16)


@pytest.mark.parametrize("name", MODELS)
def test_indivisible_grid_raises(name: str, inputs: InputSpec, storms: Batch) -> None:
    odd = replace(storms, radar=storms.radar[..., :15], rain=storms.rain_rate[..., :15])
    with pytest.raises(BadInput, match="can't be halved"):
        make_model(name, inputs).forecast(odd)


def test_base_of_the_wrong_kind_raises(inputs: InputSpec) -> None:
    with pytest.raises(BadInput, match="UNet makes no samples"):
        MemberMean(MemberMeanConfig(), inputs, make_base("unet", inputs))
    with pytest.raises(BadInput, match="UNet has no latent space"):
        LatentDiffusion(LatentDiffusionConfig(widths=WIDTHS), inputs, make_base("unet", inputs))


def test_guidance_without_condition_dropout_raises(inputs: InputSpec) -> None:
    with pytest.raises(BadInput, match="never dropped"):
        make_diffusion(inputs, guidance=1.0)


def test_diffusers_is_imported_only_when_sampling() -> None:
    for path in Path(diffusion.__file__).parent.glob("*.py"):
        at_import = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("diffusers" in ast.unparse(node) for node in at_import)


def test_residual_fields_are_one_residual_and_averaged(inputs: InputSpec, storms: Batch) -> None:
    config = ResidualDiffusionConfig(widths=WIDTHS, steps=2, fields=3)
    model = ResidualDiffusion(config, inputs, make_base("unet", inputs))
    model.fit([storms])
    randomized(model)
    target = model.target(storms)
    assert target.shape == (4, 3, 16, 16)
    assert (target == target[:, :1]).all()
    fields = model.make(storms, forecast_keys(storms, 0, 0), model.denoising.sampler)
    assert fields.shape == (4, 3, 16, 16)
    assert not torch.equal(fields[:, 0], fields[:, 1])
    torch.testing.assert_close(model.forecast(storms)[:, 0], fields.mean(1, keepdim=True))
    assert torch.isfinite(model.loss(storms))

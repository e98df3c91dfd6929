"""Properties of all nowcasting networks, and of the members of bagging."""

from typing import Any

import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import Forecaster, InputSpec, parameter_count
from polarcast.models.nowcast.network import MAX_DBZ
from polarcast.models.registry import get_model

VARIABLES = ("zh", "zdr", "kdp")
SEEN, LEAD = 4, 3
SMALL: dict[str, dict[str, Any]] = {
    "furenet": {"widths": [24, 48]},
    "furenet_advected": {"widths": [24, 48]},
    "bagging": {"widths": [24, 48]},
    "simvp": {"widths": [16, 64], "halvings": 2, "depth": 2},
    "convgru": {"widths": [24, 48]},
}


def model(name: str, variables: tuple[str, ...] = VARIABLES, heights: int = 1, **changes: Any) -> Forecaster:
    torch.manual_seed(0)
    inputs = InputSpec(variables, tuple(range(1, 1 + heights)), frames=SEEN, lead_frames=LEAD)
    return get_model(name).build(get_model(name).config(**SMALL[name] | changes), inputs)


def make_batch(variables: tuple[str, ...] = VARIABLES, heights: int = 1, side: int = 16, b: int = 2) -> Batch:
    drawn = torch.Generator().manual_seed(0)
    radar = 40 * torch.rand(b, SEEN, len(variables), heights, side, side, generator=drawn)
    future = 40 * torch.rand(b, LEAD, heights, side, side, generator=drawn)
    smooth = torch.nn.functional.avg_pool2d(future.flatten(0, 2), 5, 1, 2).view_as(future)
    number = torch.arange(b)
    return Batch(radar, None, number, number, variables, tuple(range(1, 1 + heights)), target_zh=smooth)


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        (name, variables)
        for name in SMALL
        for variables in (("zh",), ("zdr", "kdp"), VARIABLES)
        # Advection needs zh.
        if "zh" in variables or name != "furenet_advected"
    ],
)
def test_any_variables_and_heights_give_zh_at_every_height(name: str, variables: tuple[str, ...]) -> None:
    net, batch = model(name, variables, heights=2), make_batch(variables, heights=2)
    ahead = net.forecast(batch)
    assert ahead.shape == (2, 1, LEAD, 2, 16, 16)
    assert (ahead >= 0).all()
    assert net.loss(batch).isfinite()


@pytest.mark.parametrize("scaling", ["range", "frame", "standard"])
def test_forecasts_are_limited_to_max_dbz(scaling: str) -> None:
    net = model("furenet", scaling=scaling)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 30
    assert net.forecast(make_batch()).max() == MAX_DBZ


@pytest.mark.parametrize("name", SMALL)
def test_model_overfits_one_batch(name: str) -> None:
    net, batch = model(name), make_batch()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    losses = [net.validation_loss(batch).item()]
    while losses[-1] >= 0.02 * losses[0] and len(losses) <= 10:
        for _ in range(15):
            optimizer.zero_grad()
            net.loss(batch).backward()
            optimizer.step()
        losses.append(net.validation_loss(batch).item())
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.parametrize("name", SMALL)
def test_every_lead_time_depends_on_every_variable_and_frame(name: str) -> None:
    net, batch = model(name).eval(), make_batch()
    batch.radar.requires_grad_()
    for lead in range(LEAD):
        (reached,) = torch.autograd.grad(net.forecast(batch)[:, 0, lead].sum(), batch.radar)
        assert (reached.abs().amax((0, 3, 4, 5)) > 0).all()


@pytest.mark.parametrize("name", SMALL)
def test_indivisible_grid_raises(name: str) -> None:
    with pytest.raises(BadInput, match="can't be halved 2 times"):
        model(name).loss(make_batch(side=18))


@pytest.mark.parametrize(("name", "changes"), [("simvp", {"depth": 1}), ("convgru", {})])
def test_distant_echo_does_not_change_the_forecast(name: str, changes: dict[str, Any]) -> None:
    net, batch = model(name, **changes).eval(), make_batch(side=128, b=1)
    elsewhere = batch.radar.clone()
    elsewhere[..., 112:, 112:] += 20
    changed = net.forecast(Batch(elsewhere, None, batch.event, batch.frame, VARIABLES, batch.heights_km))
    near = net.forecast(batch)
    assert torch.equal(changed[..., :16, :16], near[..., :16, :16])
    assert not torch.equal(changed[..., 112:, 112:], near[..., 112:, 112:])


@pytest.mark.parametrize("name", SMALL)
def test_standard_scaling_gives_inputs_zero_mean_and_unit_variance(name: str) -> None:
    net, batch = model(name, heights=2, scaling="standard"), make_batch(heights=2)
    batch.radar.mul_(torch.tensor([1.0, 0.02, 0.01])[:, None, None, None])
    parts = [Batch(batch.radar[i : i + 1], None, batch.event[i : i + 1], batch.frame[i : i + 1], VARIABLES,
                   batch.heights_km) for i in range(2)]  # fmt: skip
    net.fit(iter(parts))
    inputs = net.network_inputs(batch)
    assert len(inputs) == (3 if name == "bagging" else 1)
    for scaled in (one.double() for one in inputs):
        over, one = (0, 1, 4, 5), torch.ones(3, 2, dtype=torch.double)
        torch.testing.assert_close(scaled.mean(over), 0 * one, atol=1e-4, rtol=0)
        torch.testing.assert_close(scaled.var(over, correction=0), one, atol=1e-3, rtol=0)
    # The forecast is in dBZ, and the statistics are part of the state dict.
    other = model(name, heights=2, scaling="standard")
    other.load_state_dict(net.state_dict())
    assert other.eval().forecast(batch).equal(net.eval().forecast(batch))
    assert net.loss(batch).isfinite()


def test_bagging_weights_start_equal_and_sum_to_one() -> None:
    net = model("bagging")
    assert net.weights.tolist() == pytest.approx([1 / 3] * 3)
    with torch.no_grad():
        net.preference.copy_(torch.tensor([3.0, -1.0, 0.5]))
    assert net.weights.sum().item() == pytest.approx(1)
    assert (net.weights > 0).all()


def test_bagging_forecast_is_the_weighted_mean_of_the_members() -> None:
    net, batch = model("bagging", views=["raw", "stretch"]).eval(), make_batch()
    with torch.no_grad():
        net.preference.copy_(torch.tensor([0.0, 1.0]).log())
    alone = model("furenet").eval()
    alone.net.load_state_dict(net.members[1].state_dict())
    inputs = Batch(batch.radar, None, batch.event, batch.frame, VARIABLES, batch.heights_km)
    assert not torch.allclose(net.forecast(inputs), alone.forecast(inputs), atol=1e-3)
    raw = model("bagging", views=["edges", "raw"]).eval()
    raw.load_state_dict(net.state_dict())
    torch.testing.assert_close(raw.forecast(inputs), alone.forecast(inputs))


def test_bagging_members_train_separately_and_weights_on_the_combination() -> None:
    net, batch = model("bagging"), make_batch()
    net.loss(batch).backward()
    together = [p.grad.clone() for p in net.members[0].parameters()]
    assert net.preference.grad.abs().sum() > 0
    alone = model("furenet")
    alone.net.load_state_dict(model("bagging").members[0].state_dict())
    alone.loss(batch).backward()
    for ours, theirs in zip(together, alone.net.parameters(), strict=True):
        torch.testing.assert_close(3 * ours, theirs.grad, rtol=1e-4, atol=1e-6)


def test_bagging_has_the_parameters_of_its_members_plus_weights() -> None:
    assert parameter_count(model("bagging")) == 3 * parameter_count(model("furenet")) + 3


def test_bagging_members_are_initialized_differently() -> None:
    first, second = (next(iter(member.parameters())) for member in list(model("bagging").members)[:2])
    assert not torch.equal(first, second)

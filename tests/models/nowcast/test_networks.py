"""What holds for every nowcasting network, and how each treats time, place and its members."""

from typing import Any

import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import Forecaster, InputSpec, parameter_count
from polarcast.models.nowcast.bagging import BaggingConfig
from polarcast.models.nowcast.network import STRONGEST_DBZ
from polarcast.models.nowcast.simvp import SimVPConfig
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


def batch_of(variables: tuple[str, ...] = VARIABLES, heights: int = 1, side: int = 16, b: int = 2) -> Batch:
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
        # What is carried along must be there.
        if "zh" in variables or name != "furenet_advected"
    ],
)
def test_any_variables_and_heights_go_in_and_zh_at_every_height_comes_out(
    name: str, variables: tuple[str, ...]
) -> None:
    made, batch = model(name, variables, heights=2), batch_of(variables, heights=2)
    ahead = made.forecast(batch)
    assert ahead.shape == (2, 1, LEAD, 2, 16, 16)
    assert (ahead >= 0).all()
    assert made.loss(batch).isfinite()


@pytest.mark.parametrize("scaling", ["range", "frame", "standard"])
def test_a_network_out_of_its_depth_says_no_more_than_hail_gives(scaling: str) -> None:
    made = model("furenet", scaling=scaling)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= 30
    assert made.forecast(batch_of()).max() == STRONGEST_DBZ


@pytest.mark.parametrize("name", SMALL)
def test_it_learns_one_batch_by_heart(name: str) -> None:
    made, batch = model(name), batch_of()
    steps = torch.optim.Adam(made.parameters(), 3e-3)
    first = made.validation_loss(batch).item()
    for _ in range(150):
        steps.zero_grad()
        made.loss(batch).backward()
        steps.step()
    assert made.validation_loss(batch).item() < 0.02 * first


@pytest.mark.parametrize("name", SMALL)
def test_every_variable_and_frame_reaches_every_lead_time(name: str) -> None:
    made, batch = model(name).eval(), batch_of()
    batch.radar.requires_grad_()
    for lead in range(LEAD):
        (reached,) = torch.autograd.grad(made.forecast(batch)[:, 0, lead].sum(), batch.radar)
        assert (reached.abs().amax((0, 3, 4, 5)) > 0).all()


@pytest.mark.parametrize("name", SMALL)
def test_a_grid_that_can_not_be_halved_as_often_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="can't be halved 2 times"):
        model(name).loss(batch_of(side=18))


@pytest.mark.parametrize(("name", "changes"), [("simvp", {"depth": 1}), ("convgru", {})])
def test_what_stands_far_away_in_a_larger_frame_changes_nothing_nearby(name: str, changes: dict[str, Any]) -> None:
    made, batch = model(name, **changes).eval(), batch_of(side=128, b=1)
    elsewhere = batch.radar.clone()
    elsewhere[..., 112:, 112:] += 20
    changed = made.forecast(Batch(elsewhere, None, batch.event, batch.frame, VARIABLES, batch.heights_km))
    near = made.forecast(batch)
    assert torch.equal(changed[..., :16, :16], near[..., :16, :16])
    assert not torch.equal(changed[..., 112:, 112:], near[..., 112:, 112:])


@pytest.mark.parametrize("name", SMALL)
def test_what_is_standardised_goes_in_with_mean_zero_and_variance_one(name: str) -> None:
    made, batch = model(name, heights=2, scaling="standard"), batch_of(heights=2)
    batch.radar.mul_(torch.tensor([1.0, 0.02, 0.01])[:, None, None, None])
    parts = [Batch(batch.radar[i : i + 1], None, batch.event[i : i + 1], batch.frame[i : i + 1], VARIABLES,
                   batch.heights_km) for i in range(2)]  # fmt: skip
    made.fit(iter(parts))
    seen = made.seen(batch)
    assert len(seen) == (3 if name == "bagging" else 1)
    for scaled in (one.double() for one in seen):
        over, one = (0, 1, 4, 5), torch.ones(3, 2, dtype=torch.double)
        torch.testing.assert_close(scaled.mean(over), 0 * one, atol=1e-4, rtol=0)
        torch.testing.assert_close(scaled.var(over, correction=0), one, atol=1e-3, rtol=0)
    # The forecast stays in dBZ, and the statistics go with the weights.
    other = model(name, heights=2, scaling="standard")
    other.load_state_dict(made.state_dict())
    assert other.eval().forecast(batch).equal(made.eval().forecast(batch))
    assert made.loss(batch).isfinite()


def test_members_of_bagging_weigh_one_together_and_begin_alike() -> None:
    made = model("bagging")
    assert made.weights.tolist() == pytest.approx([1 / 3] * 3)
    with torch.no_grad():
        made.preference.copy_(torch.tensor([3.0, -1.0, 0.5]))
    assert made.weights.sum().item() == pytest.approx(1)
    assert (made.weights > 0).all()


def test_a_bagging_forecast_is_the_weighted_mean_of_its_members() -> None:
    made, batch = model("bagging", views=["raw", "stretch"]).eval(), batch_of()
    with torch.no_grad():
        made.preference.copy_(torch.tensor([0.0, 1.0]).log())
    alone = model("furenet").eval()
    alone.net.load_state_dict(made.members[1].state_dict())
    seen = Batch(batch.radar, None, batch.event, batch.frame, VARIABLES, batch.heights_km)
    assert not torch.allclose(made.forecast(seen), alone.forecast(seen), atol=1e-3)
    raw = model("bagging", views=["edges", "raw"]).eval()
    raw.load_state_dict(made.state_dict())
    torch.testing.assert_close(raw.forecast(seen), alone.forecast(seen))


def test_members_of_bagging_learn_apart_and_only_the_weights_from_the_combination() -> None:
    made, batch = model("bagging"), batch_of()
    made.loss(batch).backward()
    together = [p.grad.clone() for p in made.members[0].parameters()]
    assert made.preference.grad.abs().sum() > 0
    alone = model("furenet")
    alone.net.load_state_dict(model("bagging").members[0].state_dict())
    alone.loss(batch).backward()
    for ours, theirs in zip(together, alone.net.parameters(), strict=True):
        torch.testing.assert_close(3 * ours, theirs.grad, rtol=1e-4, atol=1e-6)


def test_three_members_are_three_times_the_parameters_and_three_weights() -> None:
    assert parameter_count(model("bagging")) == 3 * parameter_count(model("furenet")) + 3


def test_members_begin_with_weights_of_their_own() -> None:
    first, second = (next(iter(member.parameters())) for member in list(model("bagging").members)[:2])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (BaggingConfig, "views", ["raw", "fog"]),
        (BaggingConfig, "views", []),
        (SimVPConfig, "widths", [8]),
        (SimVPConfig, "halvings", 0),
        (SimVPConfig, "depth", 0),
    ],
)
def test_settings_that_make_no_network_are_refused(config: type, key: str, value: object) -> None:
    with pytest.raises(BadInput, match=rf"model\.{key}"):
        config(**{key: value})

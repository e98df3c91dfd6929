"""What was never observed counts in no score, whatever a forecast says there."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.archive import open_archive
from polarcast.data.batch import Batch
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.cli.evaluate import _coverage
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import score, scored_observation, window_sums
from polarcast.hpc.evaluation.summary import shares
from polarcast.hpc.scores.echo_change import CHANGES, change_of
from polarcast.hpc.scores.protocol import Protocol, nowcast_protocol
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import FAMILIES
from polarcast.hpc.utils.plot_style import RAIN_LEVELS_MM_H, draw_field, field_style, pyplot

LEADS = 2
MEMBERS = 2


@pytest.fixture(scope="module")
def storms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Shards of synthetic storms, whose radar does not see the corners of the field."""
    root = tmp_path_factory.mktemp("storms")
    write_archive(root / "archive", 3, size=32, seed=1, preset="tiny", frames=5)
    return write_shards(open_archive(root / "archive"), root / "shards", split="all-test")


def reader_of(storms: Manifest, task: str, observed: bool = True) -> Reader:
    if task == "qpe":
        return open_reader(storms, "test", variables=("zh",), heights_km=(1.0,), observed=observed)
    return open_reader(
        storms, "test", variables=("zh",), heights_km=(1.0, 7.0), frames=2 + LEADS, targets=LEADS, future=True,
        rain=False, observed=observed,
    )  # fmt: skip


def forecast_of(batch: Batch) -> torch.Tensor:
    """Return two members, each with errors of its own, of the rain rate or of future zh."""
    truth = batch.rain_rate[:, None, -1:] if batch.target_zh is None else batch.target_zh[:, None]
    noise = torch.from_numpy(np.random.default_rng(0).normal(1, 0.3, (1, MEMBERS, 1, 32, 32))).float()
    return truth * (noise if batch.target_zh is None else noise[:, :, :, None]) + 1


def rain_outside(amount: float) -> Callable[[Batch], torch.Tensor]:
    """Return a forecast that predicts this amount where nothing is observed."""

    def forecast(batch: Batch) -> torch.Tensor:
        fields = forecast_of(batch)
        assert batch.observed is not None
        unobserved = ~(batch.observed[:, :, 0] if batch.target_zh is None else batch.observed)
        return fields.masked_fill(unobserved[:, None], amount)

    return forecast


def assert_equal(one: Records, other: Records) -> None:
    assert set(one.sums) == set(other.sums)
    for name, sums in one.sums.items():
        np.testing.assert_array_equal(sums, other.sums[name], err_msg=name)


def test_an_evaluation_says_which_pixels_count_in_no_score(storms: Manifest) -> None:
    """A forecast that is NaN where it is hard would otherwise be better unseen."""

    def half(batch: Batch) -> torch.Tensor:
        return forecast_of(batch).masked_fill(torch.arange(32) < 16, torch.nan)

    reader = reader_of(storms, "qpe")
    masks = reader.read(range(len(reader))).observed
    assert masks is not None
    expected = {"observed_share": masks.double().mean().item(), "scored_share": 1.0}
    assert shares(score(forecast_of, reader, World())) == pytest.approx(expected)
    expected["scored_share"] = masks[..., 16:].sum().item() / masks.sum().item()
    found = shares(score(half, reader, World()))
    assert found == pytest.approx(expected)
    observed, nan = _coverage(dict(found))
    assert observed.startswith(f"{100 * expected['observed_share']:.1f}% of the pixels are observed")
    assert nan.startswith(f"NaN: {100 * (1 - expected['scored_share']):.3g}% of the observed pixels")
    assert not _coverage({"observed_share": 1.0, "scored_share": 1.0})
    assert not _coverage({})


@pytest.mark.parametrize("task", ["qpe", "nowcast"])
def test_rain_predicted_outside_of_the_coverage_changes_no_score(storms: Manifest, task: str) -> None:
    none, heavy = (score(rain_outside(amount), reader_of(storms, task), World()) for amount in (0.0, 60.0))
    assert none.sums["continuous"].any()
    assert_equal(none, heavy)


@pytest.mark.parametrize("task", ["qpe", "nowcast"])
def test_without_masks_it_is_scored_as_a_false_alarm(storms: Manifest, task: str) -> None:
    """The score that the masks correct: a forecast of rain where nobody looked, against a zero that nobody saw."""
    unmasked, rmse = reader_of(storms, task, observed=False), parse_score("rmse")

    def scored(amount: float) -> float:
        def forecast(batch: Batch) -> torch.Tensor:
            fields = forecast_of(batch)
            fields[..., :3, :3] = amount
            return fields

        records = score(forecast, unmasked, World())
        return float(rmse.of(rmse.sums(records).sum(0), records.protocol))

    assert scored(60.0) > scored(0.0)


def test_the_share_observed_is_in_the_record(storms: Manifest) -> None:
    reader = reader_of(storms, "qpe")
    records = score(forecast_of, reader, World())
    batch = reader.read(range(len(reader)))
    assert batch.observed is not None
    query = parse_score("observed_share")
    found = query.of(query.sums(records).sum(0), records.protocol)
    print(f"observed on the ground: {float(found):.1%}")
    assert float(found) == pytest.approx(float(batch.observed.double().mean()))
    assert 0.8 < float(found) < 0.95


def test_cases_are_missing_where_nothing_was_observed(storms: Manifest) -> None:
    batch = reader_of(storms, "nowcast").read([0, 3])
    found = scored_observation(batch)
    assert batch.observed is not None
    assert torch.equal(~found.isnan(), batch.observed)
    assert torch.equal(found[batch.observed], batch.required_target_zh[batch.observed])
    plain = reader_of(storms, "nowcast", observed=False).read([0])
    assert torch.equal(scored_observation(plain), plain.required_target_zh)


def test_figures_show_in_gray_what_was_not_observed() -> None:
    field = np.zeros((8, 8), np.float32)
    axis = pyplot().figure().add_subplot()
    draw_field(axis, field, field_style(RAIN_LEVELS_MM_H))
    assert len(axis.images) == 1
    field[:4] = np.nan
    draw_field(axis, field, field_style(RAIN_LEVELS_MM_H))
    gray = axis.images[1].get_array()
    assert gray is not None
    np.testing.assert_array_equal(np.ma.getmaskarray(gray), np.isfinite(field))


def random_batch(rng: np.random.Generator, task: str) -> Batch:
    """Return two windows of 24 × 24 pixels, half of them observed, in patches."""
    side, levels, leads = 24, (1 if task == "qpe" else 2), (1 if task == "qpe" else LEADS)
    values = np.maximum(rng.gamma(0.5, 20, (2, 1 + leads, levels, side, side)) - 8, 0).astype(np.float32)
    masks = np.kron(rng.random((2, 1 + leads, levels, 6, 6)) < 0.5, np.ones((4, 4))).astype(bool)
    fields, observed = torch.from_numpy(values), torch.from_numpy(masks)
    radar, numbers = torch.zeros(2, 1, 1, levels, side, side), torch.arange(2)
    heights = (1.0, 3.0)[:levels]
    if task == "qpe":
        return Batch(radar, fields[:, 1], numbers, numbers, ("zh",), heights, observed=observed[:, 1:])
    return Batch(
        radar, None, numbers, numbers, ("zh",), heights, target_zh=fields[:, 1:], last_zh=fields[:, 0],
        observed=observed[:, 1:], last_observed=observed[:, 0],
    )  # fmt: skip


def permuted(field: torch.Tensor, observed: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return fields (…, y, x) with the values of all unobserved pixels in another order."""
    out = field.clone()
    hidden = out[~observed]
    out[~observed] = hidden[torch.from_numpy(rng.permutation(len(hidden)))]
    return out


@given(seed=st.integers(0, 10**6), task=st.sampled_from(["qpe", "nowcast"]))
def test_permuting_what_was_not_observed_changes_no_score(seed: int, task: str) -> None:
    rng = np.random.default_rng(seed)
    batch = random_batch(rng, task)
    truth = batch.rain_rate if batch.target_zh is None else batch.target_zh
    observed = batch.observed if batch.target_zh is not None else batch.observed[:, :, 0]  # type: ignore[index]
    assert observed is not None
    noise = torch.from_numpy(rng.lognormal(0, 0.5, (2, MEMBERS, *truth.shape[1:])).astype(np.float32))
    forecast = truth[:, None] * noise
    spread = observed[:, None].expand_as(forecast)
    if task == "qpe":
        protocol, other = Protocol("mm/h", (24, 24), MEMBERS), replace(batch, rain=permuted(truth, observed, rng))
    else:
        protocol = nowcast_protocol((24, 24), MEMBERS, (6.0, 12.0), (1.0, 3.0))
        assert batch.last_zh is not None
        assert batch.last_observed is not None
        other = replace(
            batch,
            target_zh=permuted(truth, observed, rng),
            last_zh=permuted(batch.last_zh, batch.last_observed, rng),
        )
    one = window_sums(forecast, batch, protocol, FAMILIES)
    two = window_sums(permuted(forecast, spread, rng), other, protocol, FAMILIES)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_echo_that_was_not_observed_at_one_time_is_no_change() -> None:
    before, later = torch.zeros(3, 20, 20), torch.zeros(3, 20, 20)
    before[:, :5], later[:, :10] = 40, 40
    assert [CHANGES[i] for i in change_of(before, later)] == ["grows"] * 3
    before[0, 5:], later[1, 5:] = torch.nan, torch.nan
    before[2] = torch.nan
    assert [CHANGES[i] for i in change_of(before, later)] == ["steady"] * 3


def test_a_lost_frame_has_no_change_and_no_score() -> None:
    batch = random_batch(np.random.default_rng(0), "nowcast")
    assert batch.observed is not None
    batch.observed[:] = False
    protocol = nowcast_protocol((24, 24), 1, (6.0, 12.0), (1.0, 3.0))
    sums = window_sums(batch.required_target_zh[:, None] + 5, batch, protocol, FAMILIES)
    for name in ("continuous", "contingency", "by_change", "crps"):
        assert not np.nan_to_num(sums[name]).any(), name


def test_scores_by_echo_change_can_be_asked_for_alone() -> None:
    batch = random_batch(np.random.default_rng(0), "nowcast")
    protocol = nowcast_protocol((24, 24), 1, (6.0, 12.0), (1.0, 3.0))
    forecast = batch.required_target_zh[:, None] + 5
    alone, every = (window_sums(forecast, batch, protocol, only) for only in ({"by_change"}, FAMILIES))
    assert every["by_change"].any()
    np.testing.assert_array_equal(alone["by_change"], every["by_change"])

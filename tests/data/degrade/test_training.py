"""Random perturbations of training samples: functions of seed and position, before crops, never of validation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polarcast.data.degrade.batches import RandomDegrade
from polarcast.data.degrade.perturbation import parse_ranges
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.runs.build import build_reader, build_sampler
from tests.data.degrade.test_fields import SETUP, batch_of, storm

SMALL = ("model.widths=[4,8]", "match_params=false", "data.crop=0")


def test_samples_depend_on_seed_and_position_only() -> None:
    batch = batch_of(storm())
    four = replace(batch, radar=batch.radar.expand(4, *batch.radar.shape[1:]), rain=None,
                   event=torch.arange(4), frame=torch.zeros(4, dtype=torch.int64))  # fmt: skip
    change = RandomDegrade(parse_ranges(["zdr_bias=0.5", "noise=2", "resolution=2", "lost=kdp", "blockage=0.4"]), SETUP)
    whole = change(four, np.arange(10, 14), 3).radar
    assert not torch.equal(whole[0], whole[1])
    part = replace(four, radar=four.radar[2:], event=four.event[2:], frame=four.frame[2:])
    assert torch.equal(change(part, np.arange(12, 14), 3).radar, whole[2:])  # another micro-batch or rank
    assert not torch.equal(change(part, np.arange(12, 14), 4).radar, whole[2:])


def test_levels_are_uniform_within_their_ranges() -> None:
    zdr = torch.full((1, 1, 8, 8), 1.0)
    one = batch_of({"zdr": zdr})
    many = replace(one, radar=one.radar.expand(400, *one.radar.shape[1:]), rain=None,
                   event=torch.arange(400), frame=torch.zeros(400, dtype=torch.int64))  # fmt: skip
    biases = RandomDegrade(parse_ranges(["zdr_bias=0.5"]), SETUP)(many, np.arange(400), 0).radar[:, 0, 0, 0, 0, 0] - 1
    assert -0.5 <= float(biases.min()) < -0.45
    assert 0.45 < float(biases.max()) <= 0.5
    assert float(biases.mean()) == pytest.approx(0, abs=0.05)
    lost = RandomDegrade(parse_ranges(["lost=zdr"]), SETUP)(many, np.arange(400), 0).radar[:, 0, 0, 0, 0, 0] == 0
    assert float(lost.float().mean()) == pytest.approx(0.5, abs=0.08)


def test_training_input_is_perturbed_before_the_crop_and_rain_is_not(shards: Manifest) -> None:
    def samples(*overrides: str, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
        config = load_config("demo", [f"data.shards={shards.folder}", *SMALL, *overrides])
        reader = build_reader(config, shards, split)
        if split != "train":
            batch = reader.read(np.arange(len(reader)))
        else:
            batch = build_sampler(config, reader).read(np.arange(4))
        return batch.radar, batch.rain_rate

    degrade = 'data.degrade=["attenuation=1","noise=2"]'
    (plain, rain), (whole, rain_too) = samples(), samples(degrade)
    assert whole.dtype == plain.dtype
    assert torch.equal(rain, rain_too)
    assert not torch.equal(plain, whole)
    (cropped, _), (cropped_plain, _) = samples(degrade, "data.crop=16"), samples("data.crop=16")
    windows = plain.unfold(-2, 16, 1).unfold(-2, 16, 1)
    for sample in range(4):  # the patch of the perturbed field, at the place of the patch of the plain one
        place = (windows[sample] == cropped_plain[sample][..., None, None, :, :]).all((-2, -1)).all(0).all(0).all(0)
        y, x = place.nonzero()[0].tolist()
        assert torch.equal(cropped[sample], whole[sample][..., y : y + 16, x : x + 16])
    assert torch.equal(samples(split="validation")[0], samples(degrade, split="validation")[0])


def test_digest_changes_only_with_the_setting() -> None:
    plain = load_config("demo", [])
    assert digest(plain) == digest(load_config("demo", ["data.degrade=[]"]))
    assert digest(plain) != digest(load_config("demo", ['data.degrade=["noise=2"]']))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (['data.degrade=["kdp_smoothing=5"]'], "KDP is not read"),
        (['data.degrade=["zdr_bias=9"]'], "out of range"),
        (['data.degrade=["lost_height=2"]'], "2 km is not read"),
        (['data.degrade=["noise=2"]', "model.name=power_law"], "fitted to the data as they are"),
    ],
)
def test_what_can_not_be_trained_on_is_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        load_config("demo", overrides)
    assert "data.degrade" in str(caught.value)


def test_the_radar_arm_has_the_list_of_the_dual_pol_arm(shards: Manifest) -> None:
    """What only the dual-pol arm reads does not change the other; both see the same ZH."""
    batches = {}
    for arm in ("radar", "dualpol"):
        overrides = [f"data.shards={shards.folder}", *SMALL, f"arm={arm}", 'data.degrade=["zdr_bias=0.5","noise=2"]']
        config = load_config("demo", overrides)
        batches[arm] = build_sampler(config, build_reader(config, shards, "train")).read(np.arange(4))
    assert torch.equal(batches["radar"].variable("zh"), batches["dualpol"].variable("zh"))

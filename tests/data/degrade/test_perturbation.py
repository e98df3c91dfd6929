"""Perturbations as text: names, levels, limits, and what they apply to."""

import pytest

from polarcast.data.degrade.perturbation import KINDS, Perturbation, parse_ranges
from polarcast.data.errors import BadInput

HEIGHTS = (1.0, 3.0, 7.0)


def test_text_and_back_in_one_order() -> None:
    text = "noise=2,zdr_bias=-0.3,lost=kdp"
    found = Perturbation.parse(text)
    assert str(found) == "zdr_bias=-0.3,noise=2,lost=kdp"
    assert Perturbation.parse(str(found)) == found == Perturbation.parse("lost=kdp, zdr_bias=-0.30 ,noise=2.0")


def test_neutral_levels_are_no_perturbation() -> None:
    neutral = ",".join(f"{name}={kind.neutral:g}" for name, kind in KINDS.items() if kind.neutral is not None)
    assert Perturbation.parse(neutral).active == Perturbation()
    assert str(Perturbation.parse("zdr_bias=0,noise=2").active) == "noise=2"
    assert str(Perturbation()) == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zdr_bias=3", "out of range"),
        ("zdr_bias=nan", "out of range"),
        ("zdr_bias=", "is not a number"),
        ("zdr_bias", "is not a number"),
        ("noise=0.5", "out of range"),
        ("resolution=2.5", "whole number"),
        ("attenuation=1.1", "0 to 1"),
        ("lost=rain", "give zh, zdr, kdp"),
        ("sun=1", "choose from"),
        ("noise=2,noise=3", "appears twice"),
        ("", "unknown perturbation"),
    ],
)
def test_bad_text_is_one_line(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        Perturbation.parse(text)
    assert "\n" not in str(caught.value)


def test_what_applies_to_an_input() -> None:
    both = Perturbation.parse("zdr_bias=0.3,noise=2,lost=kdp")
    assert str(both.seen_by(["zh", "zdr"])) == "zdr_bias=0.3,noise=2"
    assert str(both.seen_by(["zh"])) == "noise=2"
    assert not Perturbation.parse("zdr_bias=0,zh_bias=1").seen_by(["zdr"]).steps
    assert "KDP is not read" in Perturbation.parse("kdp_smoothing=5").obstacle(["zh", "zdr"], HEIGHTS)
    assert "2 km is not read" in Perturbation.parse("lost_height=2").obstacle(["zh"], HEIGHTS)
    assert "tiles of composites" in Perturbation.parse("blockage=0.2").obstacle(["zh"], HEIGHTS, has_site=False)
    assert "computed from ZH" in Perturbation.parse("attenuation=1").obstacle(["zdr"], HEIGHTS)
    assert not Perturbation.parse("attenuation=1,blockage=0.2").obstacle(["zh"], HEIGHTS)


def test_ranges_of_training() -> None:
    assert parse_ranges(["noise=2", "zdr_bias=0.5"]) == (("zdr_bias", 0.5), ("noise", 2.0))
    assert len(parse_ranges(["lost=zdr", "lost=kdp"])) == 2
    for wrong in (["noise=2", "noise=3"], ["noise=2,zdr_bias=1"], ["lost=zdr", "lost=zdr"]):
        with pytest.raises(BadInput, match=r"data\.degrade"):
            parse_ranges(wrong)

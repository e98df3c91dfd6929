"""Fields of sweeps with several names, units that contradict values, folds of the phase, and sweeps that are lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.report import IngestReport
from polarcast.data.ingest.volumes.assemble import to_volume
from polarcast.data.ingest.volumes.phase import folds_at_half_turn
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.volume import RadarSite, Volume, candidates

SITE = RadarSite(50.0, 8.0, 100.0, "TEST")
RAYS, GATES = 36, 60
ELEVATIONS = (0.5, 1.5, 3.0, 5.0)
WHERE = Path("v")


def moment(value: float, units: str = "", standard_name: str = "") -> Moment:
    """A field of one value, with a gate of another one in each ray."""
    values = np.full((RAYS, GATES), value, np.float32)
    values[:, 0] = value - 0.125
    return Moment(values, units, standard_name=standard_name)


def sweep(elevation: float, moments: dict[str, Moment], **more: Any) -> RawSweep:
    time = np.full(RAYS, np.datetime64("2020-06-01T12:00:00", "ms"))
    azimuth = np.arange(5.0, 360, 10, np.float32)
    ranges = (250 + 500 * np.arange(GATES)).astype(np.float32)
    return RawSweep(np.full(RAYS, elevation, np.float32), azimuth, ranges, time, moments, **more)


def volume(sweeps: list[RawSweep], wanted: tuple[str, ...] = ("zh", "zdr"), **named: str) -> Volume:
    return to_volume(RawVolume("CfRadial 1", SITE, tuple(sweeps)), wanted, None, WHERE, named)


def with_names(*of_sweeps: dict[str, float]) -> list[RawSweep]:
    return [
        sweep(elevation, {**{name: moment(value) for name, value in fields.items()}, "ZDR": moment(1.5)})
        for elevation, fields in zip(ELEVATIONS, of_sweeps, strict=True)
    ]


@pytest.mark.parametrize(
    ("of_sweeps", "values", "names"),
    [
        (({"DBZHC": 40, "DBZH": 30},) * 4, [40] * 4, "DBZHC"),
        (({"DBZHC": 40, "DBZH": 30},) + ({"DBZH": 30},) * 3, [30] * 4, "DBZH"),
        (({"DBZHC": 40},) * 3 + ({"DBZH": 30},), [40, 40, 40, 30], "DBZHC, DBZH"),
        (({"DBZH": 30},) + ({"TH": 20},) * 3, [30, 20, 20, 20], "TH, DBZH"),
    ],
)
def test_a_field_has_the_preferred_name_that_most_sweeps_have(
    of_sweeps: tuple[dict[str, float], ...], values: list[float], names: str
) -> None:
    made = volume(with_names(*of_sweeps))
    assert [float(np.median(one.fields["zh"])) for one in made.sweeps] == values
    assert made.names["zh"] == names
    assert not made.left_out


def test_a_corrected_field_that_removed_the_noise_of_a_sweep_remains_preferred() -> None:
    """Without echo, a sweep whose corrected field is empty does not decide for the others."""
    noise, empty = moment(-5.0), moment(np.nan)
    high = sweep(5.0, {"DBZHC": empty, "DBZH": noise, "ZDR": moment(0.5)})
    lower = [sweep(e, {"DBZHC": moment(40.0), "DBZH": moment(30.0), "ZDR": moment(1.5)}) for e in ELEVATIONS[:3]]
    made = volume([*lower, high])
    assert [float(np.median(one.fields["zh"])) for one in made.sweeps] == [40, 40, 40, -5]


def test_sweeps_without_a_field_are_counted_and_told_but_not_second_cuts() -> None:
    both, alone = {"DBZH": moment(30.0), "ZDR": moment(1.5)}, {"DBZH": moment(30.0)}
    sweeps = [sweep(0.5, both), sweep(0.5, alone), sweep(1.5, both), sweep(3.0, alone), sweep(5.0, alone)]
    made = volume(sweeps)
    assert made.left_out == {"second cuts without ZDR": 1, "sweeps without ZDR": 2}
    report = IngestReport()
    report.add_notes([{"sources": [{"file": "a"}], "volumes": [{"left_out": made.left_out}]}])
    assert report.dropped == {"sweeps without ZDR": 2}
    assert report.dropped_from == {"sweeps without ZDR": ["a"]}


def test_a_damaged_sweep_does_not_lose_the_volume() -> None:
    good = [sweep(e, {"DBZH": moment(30.0), "ZDR": moment(1.5)}) for e in ELEVATIONS]
    single = good[1].with_gates(slice(0, 1))
    in_km = replace(good[2], range_m=good[2].range_m / 1000)
    marked = replace(good[3], flaw="malfunction")
    made = volume([*good, single, in_km, marked])
    assert len(made.sweeps) == 4
    assert len(made.left_out) == 3
    assert all(reason.startswith("sweeps: ") for reason in made.left_out)
    with pytest.raises(BadInput, match=r"1 sweep of one elevation, 1 sweeps: a single gate .* 1 sweeps: malfunction"):
        volume([good[0], single, marked])
    with pytest.raises(BadInput, match="a single gate in each ray — write"):
        volume([single, single])


def test_a_volume_without_any_value_is_told() -> None:
    unseen = Moment(np.full((RAYS, GATES), np.nan, np.float32), unseen=np.ones((RAYS, GATES), bool))
    with pytest.raises(BadInput, match="ZH and ZDR without a value in any sweep: all is no data"):
        volume([sweep(e, {"DBZH": unseen, "ZDR": unseen}) for e in ELEVATIONS])
    with pytest.raises(BadInput, match=r"^v: ZDR without a value in any sweep — remove ZDR from --variables"):
        volume([sweep(e, {"DBZH": moment(30.0), "ZDR": unseen}) for e in ELEVATIONS])


@pytest.mark.parametrize(("units", "value", "expected"), [("%", 0.99, 0.99), ("%", 99.0, 0.99), ("", 0.99, 0.99)])
def test_a_correlation_in_percent_whose_values_are_ratios_is_one(units: str, value: float, expected: float) -> None:
    values = np.full((RAYS, GATES), value, np.float32)
    values[0, 0] = value * 0.5
    fields = {"DBZH": moment(30.0), "ZDR": moment(1.5), "RHOHV": Moment(values, units)}
    made = volume([sweep(e, fields) for e in ELEVATIONS])
    assert np.median(made.sweeps[0].fields["rhohv"]) == pytest.approx(expected)
    assert ("rhohv" in made.read_as) == (units == "%" and value < 1)


def test_fields_may_be_named() -> None:
    fields = {"mine": moment(35.0), "DBZH": moment(30.0), "ZDR": moment(1.5)}
    made = volume([sweep(e, fields) for e in ELEVATIONS], zh="MINE")
    assert made.names["zh"] == "mine"
    assert np.median(made.sweeps[0].fields["zh"]) == 35
    with pytest.raises(BadInput, match="no field other for zh — give --variable zh= one of: DBZH, ZDR, mine"):
        volume([sweep(e, fields) for e in ELEVATIONS], zh="other")


def test_names_of_converters_are_known_unless_their_standard_name_is_another() -> None:
    short = dict.fromkeys(("REF", "DR", "KD", "PHI", "RH", "VEL"), "")
    assert {ours: names[0] for ours, names in candidates(short).items()} == {
        "zh": "REF", "zdr": "DR", "kdp": "KD", "phidp": "PHI", "rhohv": "RH",
    }  # fmt: skip
    assert "rhohv" not in candidates({"RH": "relative_humidity"})
    assert candidates({"RH": "cross_correlation_ratio_hv"})["rhohv"] == ("RH",)
    described = {"Q1": "equivalent_reflectivity_factor", "Q1_V": "equivalent_reflectivity_factor"}
    assert candidates(described)["zh"] == ("Q1",)
    assert "zh" not in candidates({**described, "Q2": "equivalent_reflectivity_factor"})


def test_a_name_with_other_units_gives_way_to_the_next() -> None:
    fields = {"total_power": moment(-60.0, "dBm"), "TH": moment(30.0, "dBZ"), "ZDR": moment(1.5)}
    assert volume([sweep(e, fields) for e in ELEVATIONS]).names["zh"] == "TH"
    del fields["TH"]
    with pytest.raises(BadInput, match="ZH in units 'dBm'"):
        volume([sweep(e, fields) for e in ELEVATIONS])


def rising(start: float, rate: float, noise: float, seed: int = 0) -> np.ndarray:
    """A phase (20, 200) that rises with range, unlike in each ray, with noise of the receiver."""
    return (
        start
        + np.linspace(0, 3, 20)[:, None]
        + rate * np.arange(200)
        + np.random.default_rng(seed).normal(0, noise, (20, 200))
    )


@given(
    st.floats(100, 170), st.floats(0.6, 1.5), st.floats(0, 4), st.sampled_from([0.0, -90.0]),
    st.sampled_from([0.0, 180 / 254]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_phase_folded_at_half_a_turn_is_found(
    start: float, rate: float, noise: float, low: float, step: float
) -> None:
    folded = rising(start, rate, noise) % 180 + low
    folded = np.rint(folded / step) * step if step else folded
    assert folds_at_half_turn([folded], [np.ones(folded.shape, bool)])


@given(st.floats(0, 360), st.floats(0, 1.5), st.floats(0, 8), st.sampled_from([0.0, -180.0]), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_a_phase_folded_at_a_whole_turn_is_not_taken_for_it(
    start: float, rate: float, noise: float, low: float, seed: int
) -> None:
    folded = (rising(start, rate, noise, seed) - low) % 360 + low
    assert not folds_at_half_turn([folded], [np.ones(folded.shape, bool)])


@pytest.mark.parametrize("code", [0.0, 180.0])
def test_neither_noise_nor_a_code_is_a_fold_at_half_a_turn(code: float) -> None:
    rng = np.random.default_rng(1)
    all_gates = np.ones((20, 200), bool)
    assert not folds_at_half_turn([rng.uniform(0, 180, (20, 200))], [all_gates])
    near, other = np.abs(code - rng.uniform(160, 180, (20, 200))), rng.random((20, 200)) < 0.1
    assert not folds_at_half_turn([np.where(other, code, near)], [all_gates])
    assert not folds_at_half_turn([np.full((20, 200), np.nan)], [all_gates])


def test_the_fold_is_that_of_the_volume_and_noted() -> None:
    phase = (rising(150, 1.0, 2.0) % 180).astype(np.float32)
    values = np.full((RAYS, GATES), 90, np.float32)
    values[:20] = phase[:, :GATES]
    fields = {"DBZH": moment(30.0), "ZDR": moment(1.5), "PHIDP": Moment(values)}
    made = volume([sweep(e, fields) for e in ELEVATIONS])
    assert {one.phase_fold_deg for one in made.sweeps} == {180.0}
    assert made.read_as == {"phidp": "folded at 180°, as its jumps tell"}

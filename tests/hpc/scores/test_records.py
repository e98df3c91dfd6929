from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.hpc.scores.continuous import MOMENTS
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.records import Records, common_events, read_records, write_records
from polarcast.hpc.scores.sums import FAMILIES, families, score_fields
from tests.support.fields import PAIRS, missing, rain

SMALL = Protocol(unit="mm/h", shape=(32, 32))
ENSEMBLE = Protocol(unit="mm/h", shape=(32, 32), members=3)
EVENTS = np.array([4, 4, 7, 9])


def windows(protocol: Protocol, seed: int = 1) -> dict[str, np.ndarray]:
    """Return the sums of four windows, (4, 1, 1, …)."""
    forecast = torch.stack([rain(seed + m) for m in range(protocol.members)], 1)
    fields = score_fields(forecast, rain(seed + 7), protocol)
    return {name: sums.double().numpy()[:, None, None] for name, sums in fields.items()}


def part(sums: dict[str, np.ndarray], chosen: slice) -> Records:
    return Records.of_windows(SMALL, EVENTS[chosen], {name: of[chosen] for name, of in sums.items()})


@pytest.mark.parametrize("protocol", [SMALL, ENSEMBLE], ids=["one", "ensemble"])
def test_families_have_their_declared_shape_and_type(protocol: Protocol) -> None:
    sums = windows(protocol)
    assert set(sums) == set(families(protocol))
    for name, of in sums.items():
        assert of.shape == (4, 1, 1, *FAMILIES[name].shape(protocol)), name
        assert np.isfinite(of).all(), name
        if FAMILIES[name].counts:
            assert (of == of.round()).all(), name
    assert ("spread" in sums) == ("probability" in sums) == (protocol.members > 1)


@given(st.permutations(range(4)), st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_merged_parts_equal_one_record_of_all_windows(order: list[int], cut: int) -> None:
    sums = windows(SMALL)
    whole = Records.of_windows(SMALL, EVENTS, sums)
    shuffled = Records.of_windows(SMALL, EVENTS[order], {name: of[order] for name, of in sums.items()})
    parts = [p for p in (slice(0, cut), slice(cut, 4)) if len(EVENTS[p])]
    merged = part(sums, parts[0])
    for other in parts[1:]:
        merged = merged.merged(part(sums, other))
    for name in whole.sums:
        np.testing.assert_array_equal(merged.sums[name], whole.sums[name], err_msg=name)
        np.testing.assert_allclose(shuffled.sums[name], whole.sums[name], rtol=1e-13, err_msg=name)


def test_sums_do_not_depend_on_batching() -> None:
    forecast = torch.stack([rain(1), rain(2), rain(3)], 1)
    together = score_fields(forecast, rain(8), ENSEMBLE)
    alone = [score_fields(forecast[i : i + 1], rain(8)[i : i + 1], ENSEMBLE) for i in range(4)]
    for name, sums in together.items():
        torch.testing.assert_close(torch.cat([a[name] for a in alone]), sums, rtol=1e-13, atol=0)


def test_merging_records_of_different_protocols_raises() -> None:
    one = part(windows(SMALL), slice(0, 4))
    other = Records(Protocol(unit="dBZ", shape=(32, 32)), one.events, one.sums)
    with pytest.raises(BadInput, match="different protocols"):
        one.merged(other)


@pytest.mark.parametrize("protocol", [SMALL, ENSEMBLE], ids=["one", "ensemble"])
def test_records_survive_a_round_trip_to_disk(tmp_path: Path, protocol: Protocol) -> None:
    records = Records.of_windows(protocol, EVENTS, windows(protocol))
    write_records(tmp_path / "s" / "scores.parquet", records)
    back = read_records(tmp_path / "s" / "scores.parquet")
    assert back.protocol == protocol
    np.testing.assert_array_equal(back.events, [4, 7, 9])
    assert set(back.sums) == set(records.sums)
    for name, sums in records.sums.items():
        np.testing.assert_array_equal(back.sums[name], sums, err_msg=name)


def test_records_of_a_whole_archive_stay_below_16_megabytes(tmp_path: Path) -> None:
    windows_px = (1, 3, 5, 7, 9, 13, 17, 25, 33, 49, 65)
    lead = tuple(6.0 * i for i in range(1, 11))
    protocol = Protocol(unit="mm/h", shape=(256, 256), lead_time=lead, window=windows_px)
    rng = np.random.default_rng(0)
    events = np.arange(258)
    shapes = {name: (258, 10, 1, *family.shape(protocol)) for name, family in families(protocol).items()}
    # As compressible as real sums: pixel counts, and float64 without a pattern.
    sums = {
        name: rng.integers(0, 65536, shape).astype(float) if FAMILIES[name].counts else rng.lognormal(5, 2, shape)
        for name, shape in shapes.items()
        if name != "spectrum"
    }
    spectrum = {"spectrum": rng.lognormal(5, 2, shapes["spectrum"])}
    write_records(tmp_path / "scores.parquet", Records(protocol, events, {**sums, **spectrum}))
    assert (tmp_path / "scores.parquet").stat().st_size < 16e6


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing else"])
def test_damaged_records_raise(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scores.parquet").write_bytes(content)
    with pytest.raises(BadInput, match="polarcast evaluate"):
        read_records(tmp_path / "scores.parquet")


def test_records_of_another_format_raise_with_the_expected_format(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"event": [1]}), tmp_path / "scores.parquet")
    with pytest.raises(BadInput, match="polarcast-scores/2"):
        read_records(tmp_path / "scores.parquet")


def test_common_events_of_different_events_raises() -> None:
    sums = windows(SMALL)
    with pytest.raises(BadInput, match="different events"):
        common_events([part(sums, slice(0, 4)), part(sums, slice(0, 3))])


def test_classes_are_selected_by_the_observed_value() -> None:
    observed = torch.tensor([0.0, 9.99, 10.0, 29.0, 30.0, 50.0, 400.0, 0.0]).view(1, 2, 4)
    protocol = Protocol(unit="mm/h", shape=(2, 4))
    sums = score_fields(torch.zeros(1, 1, 2, 4), observed, protocol)["continuous"]
    assert sums[0, :, MOMENTS.index("pixels")].tolist() == [3, 2, 1, 2]


def test_missing_observations_are_excluded() -> None:
    forecast, observed = PAIRS["missing values"]
    sums = score_fields(forecast[:, None], observed, SMALL)
    valid = int((~observed.isnan()).sum())
    assert sums["continuous"][..., 0].sum() == valid
    assert (sums["contingency"].sum(-1) == (~observed.isnan()).sum((1, 2))[:, None]).all()
    assert valid < observed.numel() == missing(observed).numel()


def test_mismatched_shapes_raise() -> None:
    with pytest.raises(ValueError, match="expected"):
        score_fields(rain(1)[:, None], rain(1, frames=3), SMALL)

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.hpc.scores.continuous import MOMENTS
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import parse_score
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


def test_groups_of_events_are_kept_and_survive_a_round_trip(tmp_path: Path) -> None:
    sums = windows(SMALL)
    groups = {4: "2021-07-04 Köln", 7: "2021-07-04 Köln"}
    records = Records.of_windows(SMALL, EVENTS, sums, groups=groups)
    assert records.groups.tolist() == ["2021-07-04 Köln", "2021-07-04 Köln", "009"]
    write_records(tmp_path / "scores.parquet", records)
    assert read_records(tmp_path / "scores.parquet").groups.tolist() == records.groups.tolist()
    assert part(sums, slice(0, 4)).groups.tolist() == ["004", "007", "009"]


def test_merging_keeps_groups_and_refuses_two_of_one_event() -> None:
    sums = windows(SMALL)

    def of(chosen: slice, group: str) -> Records:
        cut = {name: values[chosen] for name, values in sums.items()}
        return Records.of_windows(SMALL, EVENTS[chosen], cut, groups=dict.fromkeys((4, 7, 9), group))

    assert of(slice(0, 1), "a").merged(of(slice(1, 4), "a")).groups.tolist() == ["a", "a", "a"]
    with pytest.raises(BadInput, match="event 004 has different groups"):
        of(slice(0, 1), "a").merged(of(slice(1, 4), "b"))


def rewritten(path: Path, change: Callable[[Any], Any], version: str = "polarcast-scores/3") -> None:
    """Change the table of records, and the format in their metadata."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"polarcast": version.encode()}
    pq.write_table(change(table).replace_schema_metadata(metadata), path)


def test_records_of_the_version_without_groups_have_events_as_groups(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    write_records(path, Records.of_windows(SMALL, EVENTS, windows(SMALL), groups={4: "a", 7: "a"}))
    rewritten(path, lambda table: table.drop_columns(["group"]), "polarcast-scores/2")
    assert read_records(path).groups.tolist() == ["004", "007", "009"]


@pytest.mark.parametrize("values", [None, ["a", "b", None], ["a", "b", "c\n"], ["a", "b", ""], [1, 2, 3]])
def test_damaged_groups_end_in_one_line(tmp_path: Path, values: list[Any] | None) -> None:
    import pyarrow as pa

    path = tmp_path / "scores.parquet"
    write_records(path, Records.of_windows(SMALL, EVENTS, windows(SMALL)))
    without = (lambda table: table.drop_columns(["group"])) if values is None else (
        lambda table: table.drop_columns(["group"]).append_column("group", pa.array(values))
    )  # fmt: skip
    rewritten(path, without)
    with pytest.raises(BadInput, match="is damaged") as error:
        read_records(path)
    assert "\n" not in str(error.value)


def test_an_event_with_two_groups_is_damage(tmp_path: Path) -> None:
    import pyarrow as pa

    protocol, path = Protocol(unit="dBZ", shape=(32, 32), lead_time=(6.0, 12.0)), tmp_path / "scores.parquet"
    sums = {name: np.zeros((1, 2, 1, *family.shape(protocol))) for name, family in families(protocol).items()}
    write_records(path, Records(protocol, np.array([3]), sums))
    rewritten(path, lambda table: table.drop_columns(["group"]).append_column("group", pa.array(["a", "b"])))
    with pytest.raises(BadInput, match="an event has several groups"):
        read_records(path)


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
    with pytest.raises(BadInput, match="polarcast-scores/3"):
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


def test_runs_with_different_groups_are_not_paired() -> None:
    protocol = Protocol("mm/h", (8, 8))
    one = Records(protocol, np.arange(3), {})
    other = Records(protocol, np.arange(3), {}, groups=np.array(["a", "a", "b"]))
    with pytest.raises(BadInput, match="different groups"):
        common_events([one, other])


def test_changed_bytes_are_noticed_wherever_they_are(tmp_path: Path) -> None:
    """Without checksums, a third of these changes would be read as other sums."""
    file = tmp_path / "scores.parquet"
    write_records(file, part(windows(SMALL), slice(0, 4)))
    content = file.read_bytes()
    for start in range(0, len(content) - 16, len(content) // 60):
        changed = bytearray(content)
        changed[start : start + 16] = bytes(255 - byte for byte in changed[start : start + 16])
        file.write_bytes(bytes(changed))
        with pytest.raises(BadInput):
            read_records(file)


@pytest.mark.parametrize(
    ("score", "remedy"),
    [("spread_skill", "score an ensemble"), ("ssim", "fields of at least 11 × 11 pixels")],
)
def test_a_score_that_the_records_lack_is_refused_with_the_reason(score: str, remedy: str) -> None:
    tiny = Protocol(unit="mm/h", shape=(8, 8))
    sums = score_fields(rain(1)[:, None, :8, :8], rain(2)[:, :8, :8], tiny)
    records = Records.of_windows(tiny, EVENTS, {name: of.double().numpy()[:, None, None] for name, of in sums.items()})
    with pytest.raises(BadInput, match="do not contain") as error:
        parse_score(score).sums(records)
    assert remedy in str(error.value)

"""Verification of bundles: whatever was changed is named, and hostile content is refused in one line."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.bundle.note import Bundle
from polarcast.hpc.bench.bundle.verify import Verification, odd_errors, open_bundle, verified
from polarcast.hpc.scores.continuous import MOMENTS
from polarcast.hpc.scores.records import Records, read_records, write_records
from tests.hpc.bench.bundle.tampering import Change, changed, replaced, written

Here = Callable[..., tuple[int, str, str]]


def verification(file: Path) -> Verification:
    with open_bundle(file) as one:
        return verified(one)


def wrong(found: Verification) -> dict[str, list[str]]:
    """Return the discrepancies of each part that does not agree, as text."""
    named = {one.item: one.named for one in found.agreements if not one.is_ok}
    return {item: [f"{of.where}: {of.stored} | {of.recomputed}" for of in all_of] for item, all_of in named.items()}


def member(file: Path, start: str, end: str = "") -> str:
    return next(name for name in Bundle.read(file).members if name.startswith(start) and name.endswith(end))


def with_records(file: Path, out: Path, name: str, change: Callable[[Records], Records]) -> Path:
    """Write a copy of a bundle with other score records of one run, and sums that fit."""
    bundle = Bundle.read(file)
    place = out.with_suffix(".parquet")
    place.write_bytes(bundle.members[name])
    write_records(place, change(read_records(place)))
    return written(bundle, {**bundle.members, name: place.read_bytes()}, out)


def test_an_intact_bundle_agrees(bundled: Path, polarcast_here: Here) -> None:
    code, out, err = polarcast_here("bench", "verify", bundled)
    assert (code, err) == (0, "")
    assert "suite small, 5 runs; bundled by polarcast" in out
    assert "Runs: " in out
    assert "all agrees" in out
    assert "Not proven: that these records come from these networks" in out


def test_json_has_all(bundled: Path, polarcast_here: Here) -> None:
    code, out, _ = polarcast_here("bench", "verify", bundled, "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["rerun"], told["missing"]) == (0, True, None, [])
    table = next(item for item in told["items"] if item["item"] == "tables/main.json")
    assert (table["agree"], table["what"], table["ok"]) == (table["total"], "numbers", True)
    assert table["total"] > 100
    assert told["made"]["data"] == Bundle.read(bundled).note.data


@pytest.mark.parametrize("kind", ["json", "csv", "md", "tex"])
def test_a_changed_number_is_named(bundled: Path, tmp_path: Path, kind: str, polarcast_here: Here) -> None:
    table = json.loads(Bundle.read(bundled).members["tables/main.json"])
    record = next(one for one in table["records"] if (one["model"], one["arm"]) == ("unet", "dualpol"))
    before = f"{record['value']:#.3g}" if kind in ("md", "tex") else str(record["value"])
    after = before.replace(before[-2], "7" if before[-2] != "7" else "8", 1)
    file = changed(bundled, tmp_path / "b.zip", {f"tables/main.{kind}": replaced(before, after)})
    found = wrong(verification(file))
    assert list(found) == [f"tables/main.{kind}"]
    [one] = found[f"tables/main.{kind}"]
    assert str(float(after)) in one
    assert str(float(before)) in one
    assert kind != "json" or one.startswith("unet/dualpol/rmse: value")
    if kind == "json":
        code, out, _ = polarcast_here("bench", "verify", file)
        assert code == 1
        assert "tables/main.json: " in out
        assert f"  {one.partition(': ')[0]}: value: stored {after}, recomputed {before}" in out
        assert "1 of 18 parts do not agree" in out


def test_differences_by_rounding_agree_and_are_told(bundled: Path, tmp_path: Path) -> None:
    def rounded(content: bytes) -> bytes:
        table = json.loads(content)
        table["records"][0]["value"] *= 1 + 1e-13
        return json.dumps(table).encode()

    found = verification(changed(bundled, tmp_path / "b.zip", {"tables/main.json": rounded}))
    assert found.is_ok
    [one] = [one for one in found.agreements if one.rounding]
    assert one.item == "tables/main.json"
    assert 1e-14 < one.rounding < 1e-12


@pytest.mark.parametrize(
    ("name", "change", "item", "named"),
    [
        ("tables/verdict.txt", replaced("Not tested: ", "Tested: "), "tables/verdict.txt", "sentence 3: Tested"),
        (
            "tables/main.json",
            replaced('"title": "Main"', '"title": "Better"'),
            "tables/main.json",
            "title: Better | Main",
        ),
        ("tables/main.md", replaced("U-Net", "V-Net"), "tables/main.md", "V-Net"),
        ("tables/main.tex", None, "tables/main.tex", "nothing | a file"),
        ("tables/more.json", b"{}\n", "tables/more.json", "a file | nothing"),
        ("suite.yaml", replaced("label: U-Net", "label: V-Net"), "tables/main.json", "V-Net"),
        (
            "robustness/robustness.json",
            replaced('"events": 10', '"events": 11'),
            "robustness/robustness.json",
            "events: 11",
        ),
        ("robustness/robustness.csv", None, "robustness/robustness.csv", "nothing | a file"),
        ("cost.json", replaced('"parameters": ', '"parameters": 1'), "cost.json", "unet/dualpol: parameters"),
    ],
)
def test_other_changes_are_named(
    bundled: Path, tmp_path: Path, name: str, change: Change | bytes | None, item: str, named: str
) -> None:
    found = wrong(verification(changed(bundled, tmp_path / "b.zip", {name: change})))
    assert any(named in line for line in found[item])


@pytest.mark.parametrize(
    ("part", "before", "after"),
    [
        ("cells/unet-dualpol-s1", "learning_rate: 1.0e-06", "learning_rate: 1.0e-03"),
        ("cells/unet-dualpol-s1", "seed: 1", "seed: 2"),
        ("suite.yaml", "learning_rate: 1.0e-06", "learning_rate: 1.0e-03"),
        ("suite.yaml", "events: 16", "events: 100000000"),
        ("data/manifest.json", '"min_strong_pixels": 0', '"min_strong_pixels": 1'),
    ],
)
def test_changed_configurations_are_named(bundled: Path, tmp_path: Path, part: str, before: str, after: str) -> None:
    name = member(bundled, part, ".yaml") if part.startswith("cells") else part
    found = wrong(verification(changed(bundled, tmp_path / "b.zip", {name: replaced(before, after)})))
    assert "configurations" in found


@pytest.mark.parametrize("end", ["card.json", "provenance.json"])
def test_cards_and_provenance_of_other_runs_are_named(bundled: Path, tmp_path: Path, end: str) -> None:
    other = {"config": "0" * 64, "data": {"digest": "1" * 64} if end == "provenance.json" else "1" * 64}
    name = member(bundled, "cells/unet-dualpol-s1", end)
    found = wrong(verification(changed(bundled, tmp_path / "b.zip", {name: json.dumps(other).encode()})))
    assert sum(end in line for line in found["configurations"]) == (2 if end == "card.json" else 1)


def test_another_version_is_told_where_something_differs(bundled: Path, tmp_path: Path, polarcast_here: Here) -> None:
    bundle = Bundle.read(bundled)
    older = replace(bundle, note=replace(bundle.note, polarcast="0.0.1"))
    hint = "whose words and scores may differ from its version"
    same = written(older, older.members, tmp_path / "same.zip")
    assert hint not in polarcast_here("bench", "verify", same)[1]
    other = written(older, {**older.members, "tables/verdict.txt": b"Better.\n"}, tmp_path / "other.zip")
    assert hint in polarcast_here("bench", "verify", other)[1]


def test_a_lost_configuration_is_named(bundled: Path, tmp_path: Path) -> None:
    name = member(bundled, "cells/unet-dualpol-s1", "config.yaml")
    found = wrong(verification(changed(bundled, tmp_path / "b.zip", {name: None})))
    assert "missing" in found["configurations"][0]


def test_records_that_were_changed_after_bundling_are_refused(bundled: Path, tmp_path: Path) -> None:
    """Their checksum is not that of bundle.json, although the zip file itself is valid."""
    from polarcast.hpc.bench.bundle.archive import write_members

    bundle = Bundle.read(bundled)
    one, other = (member(bundled, f"cells/unet-dualpol-s{seed}", ".parquet") for seed in (0, 1))
    swapped = {**bundle.members, one: bundle.members[other]}
    write_members(tmp_path / "b.zip", {"bundle.json": bundle.note.as_bytes(), **swapped})
    with pytest.raises(BadInput, match=f"{one} is damaged, or was changed"):
        verification(tmp_path / "b.zip")


def test_records_of_other_data_and_of_other_events_are_named(bundled: Path, tmp_path: Path) -> None:
    name = member(bundled, "cells/unet-dualpol-s1", ".parquet")
    other = with_records(bundled, tmp_path / "b.zip", name, lambda records: replace(records, data="0" * 64))
    assert any("data that were scored" in line for line in wrong(verification(other))["score records"])
    groups = with_records(
        bundled,
        tmp_path / "c.zip",
        name,
        lambda records: replace(records, groups=np.array(["a"] * len(records.events))),
    )
    with pytest.raises(BadInput, match="different groups"):
        verification(groups)


def test_events_that_were_left_out_in_all_runs_are_named(bundled: Path, tmp_path: Path) -> None:
    bundle = Bundle.read(bundled)
    members = dict(bundle.members)
    for name in [name for name in members if name.endswith(".parquet")]:
        (tmp_path / "one.parquet").write_bytes(members[name])
        records = read_records(tmp_path / "one.parquet")
        left = {family: of[1:] for family, of in records.sums.items()}
        easy = replace(records, events=records.events[1:], sums=left, groups=records.groups[1:])
        write_records(tmp_path / "one.parquet", easy)
        members[name] = (tmp_path / "one.parquet").read_bytes()
    found = wrong(verification(written(bundle, members, tmp_path / "b.zip")))
    event = int(records.events[0])
    assert all(f"[{event}] | []" in line for line in found["score records"])


def test_runs_without_scores_and_without_a_reason_are_named(bundled: Path, tmp_path: Path) -> None:
    run = member(bundled, "cells/unet-dualpol-s1").split("/")[1]
    without = {name: None for name in Bundle.read(bundled).members if f"/{run}/" in name}
    found = verification(changed(bundled, tmp_path / "b.zip", without))
    assert wrong(found)["suite"] == ["unet-dualpol-s1: nothing | scores"]
    assert found.missing == ["unet-dualpol-s1"]


def test_synthetic_storms_can_not_be_told_as_real(bundled: Path, tmp_path: Path) -> None:
    file = changed(bundled, tmp_path / "b.zip", {"data/manifest.json": replaced('"preset": "tiny", ', "")})
    found = wrong(verification(file))
    assert found["configurations"] == ["data/manifest.json: storms are synthetic: False | True"]
    assert "tables/verdict.txt" in found


def test_errors_that_contradict_the_other_sums_are_named(bundled: Path, tmp_path: Path) -> None:
    def better(records: Records) -> Records:
        continuous = records.sums["continuous"].copy()
        continuous[..., MOMENTS.index("sum_sq_error")] *= 0.9
        return replace(records, sums={**records.sums, "continuous": continuous})

    name = member(bundled, "cells/unet-dualpol-s1", ".parquet")
    found = wrong(verification(with_records(bundled, tmp_path / "b.zip", name, better)))
    assert {"score records", "tables/main.json", "tables/main.md"} <= found.keys()
    assert any("squared errors" in line for line in found["score records"])


def test_changed_records_of_perturbed_input_are_named(bundled: Path, tmp_path: Path) -> None:
    name = member(bundled, "cells/fitted-dualpol", "zdr_bias=0.5/scores.parquet")
    records = with_records(bundled, tmp_path / "b.zip", name, lambda of: replace(of, data="0" * 64))
    assert any("zdr_bias=0.5: data that were scored" in line for line in wrong(verification(records))["score records"])
    other = member(bundled, "cells/fitted-dualpol", "zdr_bias=-0.5/scores.parquet")
    swapped = changed(bundled, tmp_path / "c.zip", {name: Bundle.read(bundled).members[other]})
    assert list(wrong(verification(swapped))) == ["robustness/robustness.csv", "robustness/robustness.json"]


def test_true_records_have_no_odd_errors(finished: Path) -> None:
    assert [odd_errors(read_records(file)) for file in (finished / "cells").glob("*/scores.parquet")] == [0] * 5


MANY_SEEDS = "".join(f"- {seed}\n" for seed in range(2, 1700))
NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("tables/main.json", replaced('"tests": ', '"tests": NaN, "more": '), "NaN is no number"),
        ("tables/main.json", replaced('"tests": ', '"tests": -Infinity, "more": '), "Infinity is no number"),
        ("tables/main.json", replaced('"tests": ', '"tests": 1e999, "more": '), "1e999 is no number"),
        ("tables/main.json", NESTED, "damaged"),
        ("tables/main.json", b"\xff\xfe", "damaged"),
        ("tables/main.json", b"9" * 5000, "damaged"),
        ("tables/main.csv", replaced("Z–R, fitted", '=HYPERLINK(""x"")'), "a formula that a spreadsheet would run"),
        ("tables/main.csv", replaced("main,", "@SUM(A1),"), "a formula that a spreadsheet would run"),
        ("tables/main.csv", b"\xff", "not UTF-8"),
        ("tables/main.md", b"\xff", "not UTF-8"),
        ("suite.yaml", replaced("label: U-Net", "label: ${oc.env:HOME}"), "configurations are not interpolated"),
        ("suite.yaml", replaced("preset: demo", "preset: /etc/passwd.yaml"), "the preset of fitted is a file"),
        ("suite.yaml", replaced("label: U-Net", "label: &a U-Net\n    more: *a"), "aliases"),
        ("suite.yaml", replaced("- 2\n", MANY_SEEDS), "has 5100 runs"),
        ("suite.yaml", b"models: [", "damaged"),
        ("suite.yaml", b"x: 1\n", "x"),
        ("suite.yaml", replaced("name: small", "name: ../small"), "a name must not"),
        ("data/manifest.json", b"{}", "damaged manifest"),
        ("data/manifest.json", None, "lacks data/manifest.json"),
        ("cells/../../x/config.yaml", b"", "must not start with a dot"),
        ("cells/x/model.safetensors", b"1", "is no file of a bundle"),
        ("cells/x-dualpol-s0-00000000-00000000/config.yaml", b"1", "is no run of its suite"),
        ("tables/a.exe", b"1", "is no file of a bundle"),
        ("tables/a/b.json", b"1", "is no file of a bundle"),
        ("run.sh", b"1", "is no file of a bundle"),
    ],
)  # fmt: skip
def test_hostile_content_is_refused_in_one_line(
    bundled: Path, tmp_path: Path, name: str, change: Change | bytes | None, reason: str, polarcast_here: Here
) -> None:
    file = changed(bundled, tmp_path / "b.zip", {name: change})
    code, out, err = polarcast_here("bench", "verify", file)
    assert (code, out) == (2, "")
    assert reason in err
    assert err.startswith(f"polarcast: {file}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("end", ["config.yaml", "scores.parquet", "provenance.json", "card.json"])
def test_hostile_files_of_runs_are_refused_or_named(
    bundled: Path, tmp_path: Path, end: str, polarcast_here: Here
) -> None:
    name = member(bundled, "cells/unet-dualpol-s1", end)
    hostile = {"config.yaml": b"model: {name: ${oc.env:HOME}}\n", "scores.parquet": b"PAR1" + bytes(100) + b"PAR1"}
    file = changed(bundled, tmp_path / "b.zip", {name: hostile.get(end, b"[[1, 2], 3]\n")})
    code, _, err = polarcast_here("bench", "verify", file)
    assert (code, err.count("\n")) == (2, 1)
    assert end in err


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('"polarcast-bundle/1"', '"polarcast-bundle/9"', "is of the format 'polarcast-bundle/9'"),
        ('"suite": "small"', '"suite": "../small"', "suite is '../small'"),
        ('"about_data": ""', '"about_data": "a\\nb"', "about_data is"),
        ('"left_out": []', '"left_out": {}', "left_out is"),
        ('"left_out": []', '"left_out": [], "extra": 1', "has an unknown key 'extra'"),
        ('"sha256": "', '"sha256": "x', "files is"),
        ('"bytes": ', '"bytes": 1', "is damaged, or was changed"),
        ('"suite.yaml"', '"suite.yml"', "does not list the members as they are"),
    ],
)
def test_a_wrong_note_is_refused(bundled: Path, tmp_path: Path, before: str, after: str, reason: str) -> None:
    from polarcast.hpc.bench.bundle.archive import write_members

    bundle = Bundle.read(bundled)
    note = replaced(before, after)(bundle.note.as_bytes())
    write_members(tmp_path / "b.zip", {"bundle.json": note, **bundle.members})
    with pytest.raises(BadInput, match=reason):
        Bundle.read(tmp_path / "b.zip")


def test_other_files_are_no_bundles(tmp_path: Path, finished: Path, polarcast_here: Here) -> None:
    shutil.make_archive(str(tmp_path / "made"), "zip", finished / "tables")
    for file in (tmp_path / "made.zip", finished / "suite.yaml", finished, tmp_path / "missing.zip"):
        code, out, err = polarcast_here("bench", "verify", file)
        assert (code, out, err.count("\n")) == (2, "", 1)

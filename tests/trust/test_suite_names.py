"""Names and texts of suites, spaces and boards that others have written."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.suite import load_suite

Run = Callable[..., tuple[int, str, str]]
UNSAFE = [
    "../../../x",
    "/tmp/x",
    "a/b",
    "..",
    ".hidden",
    "-o",
    "a\nb",
    " a",
    "",
    "x" * 300,
    "a\\b",
    "a\x1b[2Jb",
    "a\u202eb",
]
MODEL = {"label": "Net", "set": {"model": {"name": "power_law"}}}


def suite_file(folder: Path, **content: object) -> str:
    file = folder / "mine.yaml"
    file.write_text(json.dumps({"models": {"net": MODEL}, "tables": {"t": {"title": "T"}}, **content}))
    return str(file)


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("part", ["name", "models", "tables"])
def test_a_name_in_a_suite_is_no_path(tmp_path: Path, polarcast_here: Run, name: str, part: str) -> None:
    changed = {"name": name, "models": {name: MODEL}, "tables": {name: {"title": "T"}}}
    before = sorted(tmp_path.iterdir())
    code, _, message = polarcast_here("bench", suite_file(tmp_path, **{part: changed[part]}), "--out", tmp_path / "out")
    assert (code, len(message.splitlines())) == (2, 1), message
    assert "mine.yaml" in message
    assert [p for p in sorted(tmp_path.iterdir()) if p.name != "mine.yaml"] == before


@pytest.mark.parametrize("names", [("Net", "net"), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "straße")])
def test_two_names_do_not_fold_to_one_file(tmp_path: Path, names: tuple[str, str]) -> None:
    for part in ({"models": dict.fromkeys(names, MODEL)}, {"tables": {name: {"title": "T"} for name in names}}):
        with pytest.raises(BadInput, match="are one file"):
            load_suite(suite_file(tmp_path, **part))


def test_umlauts_spaces_and_dots_are_names(tmp_path: Path) -> None:
    names = ["Zürich 2", "v1.0", "雨", "a_b-c"]
    suite = load_suite(suite_file(tmp_path, models=dict.fromkeys(names, MODEL)))
    assert list(suite.models) == names


def test_a_title_with_line_ends_or_escapes_stays_one_line(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path, tables={"t": {"title": "One\n\n# two \x1b[2J"}}))
    assert suite.tables["t"].title == "One # two \\x1b[2J"


def test_a_stored_suite_reads_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    path = suite_file(tmp_path, tables={"t": {"title": "${oc.env:SECRET}"}})
    assert load_suite(path).tables["t"].title == "hunter2"  # the user's own file
    os.rename(path, tmp_path / "suite.yaml")
    with pytest.raises(BadInput, match="not interpolated"):
        saved_suite(tmp_path)


@pytest.mark.parametrize("name", ["-o", " mine", ".mine", "a\nb", "a\\b"])
def test_the_name_of_a_space_is_no_option_or_hidden_folder(
    tmp_path: Path, polarcast_here: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{name}.yaml"
    file.write_text("parameters: {train.learning_rate: {uniform: [0.1, 1]}}")
    code, _, message = polarcast_here("sweep", file)
    assert (code, len(message.splitlines())) == (2, 1), message
    assert list(tmp_path.iterdir()) == [file]


def test_a_trial_with_the_key_of_another_folder_is_not_used(tmp_path: Path) -> None:
    from polarcast.sweeps.record import Trial, read_trials, write_trial

    write_trial(tmp_path / "trials" / "00c0ffee", Trial("../../elsewhere", {"train.seed": 1}, 9, 0.0))
    write_trial(tmp_path / "trials" / "00decade", Trial("00decade", {"train.seed": 1}, 9, 0.0))
    assert [trial.key for trial in read_trials(tmp_path)] == ["00decade"]

"""Suites and spaces that can't work are refused in one line, before anything is made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polarcast.data.archive import Archive

Run = Callable[..., tuple[int, str, str]]
NET = {"label": "Net", "preset": "demo"}
SUITE: dict[str, Any] = {"models": {"net": NET}, "tables": {"t": {"title": "T"}}}
TABLE: dict[str, Any] = {"title": "T"}
SYNTH = {"events": 12, "frames": 2, "size": 32, "preset": "tiny"}
RULE = {"set": {"model": {"name": "power_law"}}}
POST = {"base": "net", "set": {"model": {"name": "post_process"}}}
RATE = {"uniform": [0.001, 0.1]}

FETCH = {"network": "nexrad", "station": "KLBB", "start": "2016-05-01", "end": "2016-10-01"}


def with_table(**changes: Any) -> dict[str, Any]:
    return {"tables": {"t": {**TABLE, **changes}}}


def with_model(**changes: Any) -> dict[str, Any]:
    return {"models": {"net": {**NET, **changes}}}


def with_data(**changes: Any) -> dict[str, Any]:
    return {"data": {"synth": {**SYNTH, **changes}}}


WRONG_DATA: dict[str, tuple[Any, str]] = {
    "two sources": ({"data": {"synth": SYNTH, "archive": "nowhere"}}, "archive and synth exclude each other"),
    "an unknown network": ({"data": {"fetch": {**FETCH, "network": "mars"}}}, "unknown network 'mars'"),
    "no station": ({"data": {"fetch": {**FETCH, "station": None}}}, "station"),
    "a period that is empty": ({"data": {"fetch": {**FETCH, "end": FETCH["start"]}}}, "data.fetch.end"),
    "an unknown key of ingest": ({"data": {"fetch": FETCH, "ingest": {"spacing": 2}}}, "spacing"),
    "a grid that ingest can't make": ({"data": {"fetch": FETCH, "ingest": {"size": 4}}}, "size = 4"),
    "more storms than fetch takes": ({"data": {"fetch": {**FETCH, "storms": 5000}}}, "give 0 to 1000"),
    "too few storms for the split": ({"data": {"fetch": {**FETCH, "storms": 1}}}, "data.split"),
}
"""Data that suites and spaces refuse alike."""
SUITES: dict[str, tuple[Any, str]] = {
    "an empty file": ("", "no models"),
    "a list": ("[1, 2]", ""),
    "a text": ("word", ""),
    "no YAML": ("{", ""),
    "bytes": ("\x00\x01", ""),
    "no models": ({"models": {}}, "no models"),
    "null models": ({"models": None}, ""),
    "no seeds": ({"seeds": []}, "seeds"),
    "a negative seed": ({"seeds": [-1]}, "seeds"),
    "a seed twice": ({"seeds": [1, 1]}, "twice"),
    "a text as seed": ({"seeds": ["a"]}, "seeds"),
    "no arms": ({"arms": []}, "arms"),
    "an unknown arm": ({"arms": ["sonar"]}, "sonar"),
    "an unknown task": ({"task": "magic"}, "magic"),
    "an unknown key": ({"modles": {}}, "modles"),
    "an unknown preset": (with_model(preset="nope"), "nope"),
    "an unknown model": (with_model(set={"model": {"name": "nope"}}), "nope"),
    "an unknown setting": (with_model(set={"model": {"width": 3}}), "width"),
    "a wrong setting": (with_model(set={"train": {"steps": "many"}}), "steps"),
    "a setting out of range": (with_model(set={"train": {"global_batch": 0}}), "global_batch"),
    "no seeds of a model": (with_model(seeds=[]), "seeds"),
    "no arms of a model": (with_model(arms=[]), "arms"),
    "a model without label": ({"models": {"net": {}}}, "label"),
    "a table without title": ({"tables": {"t": {}}}, "title"),
    "no scores": (with_table(metrics=[]), "metrics"),
    "an unknown score": (with_table(metrics=["nope"]), "nope"),
    "an unknown threshold": (with_table(metrics=["csi@threshold=7"]), "0.5, 1, 5, 10, 30, 50"),
    "an unknown class": (with_table(metrics=["rmse@class=20"]), "choose from"),
    "a window larger than the field": (with_table(metrics=["fss@threshold=10,window=65"]), "window"),
    "a score of ensembles": (with_table(metrics=["spread_skill"]), "ensemble"),
    "a score of nowcasts": (with_table(metrics=["csi@threshold=10,change=grew"]), ""),
    "a threshold of NaN": (with_table(metrics=["csi@threshold=nan"]), "nan"),
    "an unknown field": (with_table(metrics=["power@field=odd,wavenumber=1"]), "odd"),
    "no rows": (with_table(rows=[]), "rows"),
    "no columns": (with_table(columns=[], rows=["model", "metric", "arm"]), "columns"),
    "no models of a table": (with_table(models=[]), "models"),
    "an unknown arm of a table": (with_table(arms=["sonar"]), "sonar"),
    "an unknown aggregation": (with_table(aggregation="mode"), "mode"),
    "no events": (with_data(events=0), "events"),
    "negative frames": (with_data(frames=-1), "frames"),
    "too many events": (with_data(events=10**12), "events"),
    "a huge field": (with_data(size=10**9), "size"),
    "NaN events": (with_data(events=float("nan")), "events"),
    "an unknown climate": (with_data(preset="mars"), "mars"),
    "a negative seed of data": (with_data(seed=-1), "seed"),
    "a split of NaN": ({"data": {"synth": SYNTH, "split": "nan/nan/nan"}}, "nan"),
    "an unknown split": ({"data": {"synth": SYNTH, "split": "half"}}, "half"),
    "two shares": ({"data": {"synth": SYNTH, "split": "0.9/0.3"}}, "data.split: unknown split rule '0.9/0.3'"),
    "shares above one": ({"data": {"synth": SYNTH, "split": "0.9/0.3/0.1"}}, "data.split: the shares 0.9/0.3/0.1"),
    "a split without test events": (
        {"data": {"synth": SYNTH, "split": "0.9/0.1/0"}}, "data.split: no event left for test"
    ),
    **WRONG_DATA,
    "a missing archive": ({"data": {"archive": "nowhere/at-all"}}, "nowhere/at-all"),
    "more events than synth makes": (with_data(events=500_000), "100000"),
    "a larger field than synth makes": (with_data(size=8192), "4096"),
    "no event to train on": ({"data": {"synth": SYNTH, "split": "all-test"}}, "train"),
    "a height that synth does not make": (with_model(set={"data": {"heights_km": [5.0]}}), "1, 3, 7"),
    "a crop larger than the field": (with_model(set={"data": {"crop": 64}}), "at most 32"),
    "all events held out": (with_model(set={"data": {"hold_out": 0.999}}), "data.hold_out"),
    "an unknown threshold of validations": (
        with_model(set={"train": {"validate_scores": ["csi@threshold=7"]}}), "0.5, 1, 5, 10, 30, 50"
    ),
    "a window of validations larger than the field": (
        with_model(set={"train": {"validate_scores": ["fss@threshold=10,window=65"]}}), "train.validate_scores"
    ),
    "a base without samples": ({"models": {"net": NET | RULE, "post": {**NET, **POST}}}, "makes no samples"),
    "a window longer than the events": (
        {"task": "nowcast", **with_model(set={"model": {"name": "furenet"}})}, "20 frames"
    ),
    "a task of a model": (with_model(set={"task": "nowcast"}), "task"),
    "an arm of a model": (with_model(set={"arm": "radar"}), "arms"),
    "a seed of a model": (with_model(set={"seed": 3}), "seeds"),
    "shards of a model": (with_model(set={"data": {"shards": "elsewhere"}}), "data.shards"),
    "a base among the settings": (with_model(set={"base": "runs/unet"}), "base"),
}  # fmt: skip


def refused(done: tuple[int, str, str], word: str) -> None:
    code, _, message = done
    assert (code, len(message.splitlines())) == (2, 1), message
    assert word in message


@pytest.mark.parametrize("wrong", SUITES)
def test_a_wrong_suite_makes_no_data(tmp_path: Path, polarcast_here: Run, wrong: str) -> None:
    content, word = SUITES[wrong]
    text = content if isinstance(content, str) else json.dumps({"data": {"synth": SYNTH}, **SUITE, **content})
    (tmp_path / "mine.yaml").write_text(text.replace("NaN", ".nan"))
    refused(polarcast_here("bench", tmp_path / "mine.yaml", "--out", tmp_path / "out"), word)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--workers", "0"), "--workers"),
        (("--workers", "-2"), "--workers"),
        (("--split", "nan/nan/nan"), "--split: the shares nan/nan/nan"),
        (("--split", "0.9/0.3"), "--split: unknown split rule '0.9/0.3'"),
        (("--archive", "/nowhere/at-all"), "/nowhere/at-all"),
        (("--out", "/dev/null/x"), "/dev/null"),
        (("--out", "mine.yaml"), "mine.yaml"),
    ],
)
def test_a_wrong_call_of_bench_makes_no_data(
    tmp_path: Path, polarcast_here: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, str], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(json.dumps({"data": {"synth": SYNTH}, **SUITE}))
    refused(polarcast_here("bench", "mine.yaml", *options), word)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_wrong_setting_for_an_archive_makes_no_data(tmp_path: Path, archive: Archive, polarcast_here: Run) -> None:
    """The shape, heights and variables of an archive that exists are known."""
    for settings, word in (({"crop": 2048}, "data.crop"), ({"heights_km": [5.0]}, "data.heights_km")):
        content = {**SUITE, **with_model(set={"data": settings}), "data": {"archive": str(archive.root)}}
        (tmp_path / "mine.yaml").write_text(json.dumps(content))
        refused(polarcast_here("bench", tmp_path / "mine.yaml", "--out", tmp_path / "out"), word)
    assert not (tmp_path / "out").exists()


SPACES: dict[str, tuple[Any, str]] = {
    "an empty file": ("", "no parameters"),
    "a list": ("[1, 2]", ""),
    "no parameters": ({"parameters": {}}, "no parameters"),
    "an unknown key": ({"trails": 3}, "trails"),
    "no choices": ({"parameters": {"train.learning_rate": {"choice": []}}}, "choice"),
    "a range from high to low": ({"parameters": {"train.learning_rate": {"uniform": [1, 0.1]}}}, "range"),
    "a range of NaN": ({"parameters": {"train.learning_rate": {"uniform": [0.1, float("nan")]}}}, "finite"),
    "an infinite range": ({"parameters": {"train.learning_rate": {"uniform": [0.1, float("inf")]}}}, "finite"),
    "an unknown kind": ({"parameters": {"train.learning_rate": {"normal": [0, 1]}}}, "normal"),
    "a condition that is no condition": (
        {"parameters": {"train.learning_rate": {"uniform": [0.1, 1], "when": [1]}}}, "when"
    ),
    "no trials": ({"trials": 0}, "trials"),
    "negative trials": ({"trials": -1}, "trials"),
    "too many trials": ({"trials": 10**12}, "trials"),
    "no processes": ({"processes": 0}, "processes"),
    "a negative seed": ({"seed": -3}, "seed"),
    "an empty grid": ({"search": "grid", "grid": 0}, "grid"),
    "a grid without end": ({"search": "grid", "grid": 10**9}, "grid"),
    "an unknown search": ({"search": "magic"}, "magic"),
    "an unknown threshold": ({"objective": "validation/csi@threshold=7"}, "0.5, 1, 5, 10, 30, 50"),
    "a wrong setting": ({"set": {"train": {"steps": "many"}}}, "steps"),
    "no events": ({"data": {"synth": {**SYNTH, "events": 0}}}, "events"),
    **WRONG_DATA,
    "a missing archive": ({"data": {"archive": "nowhere/at-all"}}, "nowhere/at-all"),
    "more events than synth makes": ({"data": {"synth": {**SYNTH, "events": 500_000}}}, "100000"),
    "a larger field than synth makes": ({"data": {"synth": {**SYNTH, "size": 8192}}}, "4096"),
    "no event to train on": ({"data": {"synth": SYNTH, "split": "all-test"}}, "train"),
    "a height that synth does not make": ({"set": {"data": {"heights_km": [5.0]}}}, "1, 3, 7"),
    "a crop larger than the field": ({"parameters": {"data.crop": {"choice": [16, 64]}}}, "at most 32"),
    "all events held out": ({"parameters": {"data.hold_out": {"uniform": [0.2, 0.999]}}}, "data.hold_out"),
    "an unknown threshold of validations": (
        {"set": {"train": {"validate_scores": ["csi@threshold=7"]}}}, "0.5, 1, 5, 10, 30, 50"
    ),
    "shards besides its own data": ({"set": {"data": {"shards": "elsewhere"}}}, "data.shards"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", SPACES)
def test_a_wrong_space_makes_nothing(tmp_path: Path, polarcast_here: Run, wrong: str) -> None:
    content, word = SPACES[wrong]
    plain = {"parameters": {"train.learning_rate": RATE}, "data": {"synth": SYNTH}}
    text = content if isinstance(content, str) else json.dumps({**plain, **content})
    (tmp_path / "mine.yaml").write_text(text.replace("NaN", ".nan").replace("Infinity", ".inf"))
    refused(polarcast_here("sweep", tmp_path / "mine.yaml", "--out", tmp_path / "out"), word)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--trials", "0"), "--trials"),
        (("--trials", "-3"), "--trials"),
        (("--at-once", "-1"), "--at-once"),
        (("--out", "mine.yaml"), "mine.yaml"),
        (("--out", "/dev/null/x"), "/dev/null"),
        (("--results-only",), "holds no sweep"),
        (("--out", "nowhere", "--resume"), "holds no sweep"),
    ],
)
def test_a_wrong_call_of_sweep_makes_nothing(
    tmp_path: Path, polarcast_here: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(json.dumps({"parameters": {"train.learning_rate": RATE}}))
    refused(polarcast_here("sweep", "mine.yaml", *options), word)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]

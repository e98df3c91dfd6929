"""A suite in one file: the same bytes from every copy, without secrets and places, verified where nothing else is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.files import sole_writer, write_json
from polarcast.hpc.bench.bundle import note as form
from polarcast.hpc.bench.bundle.note import Bundle
from polarcast.hpc.bench.bundle.verify import open_bundle, verified
from polarcast.hpc.bench.bundle.write import write_bundle
from polarcast.hpc.bench.cells import SuiteFolder
from polarcast.hpc.bench.failures import write_failure
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.run import finished_tables
from tests.support import warm

Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the suite's folder elsewhere, whose files have other times."""
    folder = tmp_path / "elsewhere" / "copy"
    shutil.copytree(finished, folder, copy_function=shutil.copyfile)
    for number, path in enumerate(sorted(folder.rglob("*"))):
        os.utime(path, (10**9 + number, 10**9 + number))
    return folder


def run_of(folder: Path, start: str) -> Path:
    return next((folder / "cells").glob(f"{start}*"))


def test_every_copy_gives_the_same_bytes(copy: Path, bundled: Path, tmp_path: Path) -> None:
    write_bundle(copy, tmp_path / "new" / "folder" / "again.zip")
    assert (tmp_path / "new" / "folder" / "again.zip").read_bytes() == bundled.read_bytes()


def test_results_that_are_left_out_are_named(copy: Path, tmp_path: Path) -> None:
    for name in ("confirm/seed-1", "on"):
        (copy / name).mkdir(parents=True)
    assert write_bundle(copy, tmp_path / "b.zip").note.left_out == ("confirm",)
    # Made by the verb with other settings than those of the suite.
    (copy / "robustness" / "made_from.json").unlink()
    other = write_bundle(copy, tmp_path / "c.zip")
    assert other.note.left_out == ("robustness", "confirm")
    assert not [name for name in other.members if "robustness" in name]


def test_it_is_verified_without_weights_data_and_folder(copy: Path, tmp_path: Path) -> None:
    """The acceptance: checkpoints and weights are deleted, and the file is verified by a process elsewhere."""
    for run in (copy / "cells").iterdir():
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        (run / "model.safetensors").unlink(missing_ok=True)
    for shard in copy.glob("data-*/shards/*.tar"):
        shard.unlink()
    shutil.rmtree(next(copy.glob("data-*/archive")))
    write_bundle(copy, tmp_path / "small.zip")
    shutil.rmtree(copy)
    (tmp_path / "other").mkdir()
    shutil.move(tmp_path / "small.zip", tmp_path / "other" / "renamed.zip")
    done = warm.run(
        warm.polarcast("bench", "verify", "renamed.zip"), cwd=tmp_path / "other", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "configurations: 29 of 29 digests agree" in done.stdout
    assert "score records: 35 of 35 facts of the data agree" in done.stdout
    assert "tables/verdict.txt: 3 of 3 sentences agree" in done.stdout
    assert "all agrees\n" in done.stdout
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["renamed.zip"]


def test_its_members_and_what_they_hold(finished: Path, bundled: Path) -> None:
    bundle = Bundle.read(bundled)
    names = [name for name in bundle.members if not name.startswith("cells/")]
    tables = [f"tables/{table}.{kind}" for table in ("main", "events") for kind in ("json", "csv", "md", "tex")]
    costs = [f"cost.{kind}" for kind in ("json", "csv", "md", "tex")]
    robustness = [f"robustness/robustness.{kind}" for kind in ("json", "csv")]
    assert names == [
        "suite.yaml", "data/manifest.json", *tables, "tables/verdict.txt", *costs, "report.html", *robustness,
    ]  # fmt: skip
    perturbed = {name.partition("/robustness/")[2] for name in bundle.members if name.startswith("cells/fitted")}
    assert {"zdr_bias=-0.5/scores.parquet", "zdr_bias=0.5/scores.parquet"} <= perturbed
    assert bundle.cells() == sorted(path.name for path in (finished / "cells").iterdir())
    run = run_of(finished, "unet-dualpol-s1").name
    assert {name.split("/")[2] for name in bundle.members if run in name} == {
        "config.yaml", "provenance.json", "card.json", "scores.parquet", "log.jsonl",
    }  # fmt: skip
    assert bundle.members["tables/main.csv"] == (finished / "tables" / "main.csv").read_bytes()
    assert bundle.note.suite == "small"
    assert str(finished).encode() not in b"".join(c for name, c in bundle.members.items() if name != form.REPORT)


def test_no_secret_is_bundled(copy: Path, tmp_path: Path) -> None:
    run = run_of(copy, "unet-dualpol-s0")
    known = json.loads((run / "provenance.json").read_text())
    known["command"] = ["train", "data.shards=https://me:hunter2@example.org/shards", "--token=hunter2"]
    write_json(run / "provenance.json", known)
    with (run / "log.jsonl").open("a") as stream:
        stream.write(
            json.dumps({"event": "start", "shards": "pipe:curl -u me:hunter2 https://example.org/{name}"}) + "\n"
        )
    (run / "config.yaml").write_text(
        (run / "config.yaml")
        .read_text()
        .replace(f"shards: {known['data']['folder']}", "shards: pipe:get --token hunter2")
    )
    write_bundle(copy, tmp_path / "b.zip")
    assert b"hunter2" not in (tmp_path / "b.zip").read_bytes()
    assert b"secret-" in (tmp_path / "b.zip").read_bytes()


def test_an_unfinished_suite_is_refused(copy: Path, tmp_path: Path, polarcast_here: Here) -> None:
    (run_of(copy, "unet-dualpol-s1") / "scores.parquet").unlink()
    code, out, err = polarcast_here("bench", "bundle", copy, "-o", tmp_path / "b.zip")
    assert (code, out) == (2, "")
    assert "unfinished suite: 1 of 5 runs are not scored, such as unet-dualpol-s1" in err
    assert not (tmp_path / "b.zip").exists()


def test_a_suite_with_a_failed_run_is_bundled_and_says_what_is_missing(copy: Path, tmp_path: Path) -> None:
    run = run_of(copy, "unet-dualpol-s1")
    (run / "scores.parquet").unlink()
    write_failure(run, "out of memory: see /home/me/runs/output.txt", 3)
    suite = saved_suite(copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.hpc.bench.figures.drawn.drawn_or_draw", lambda *_: [])
        finished_tables(suite, SuiteFolder(copy, suite.data))
    write_bundle(copy, tmp_path / "b.zip")
    with open_bundle(tmp_path / "b.zip") as one:
        found = verified(one)
    assert found.is_ok
    assert found.missing == ["unet-dualpol-s1: out of memory: see …/output.txt"]
    assert "4 of 5 runs are scored" in found.made["about_data"]


def test_tables_that_do_not_follow_from_the_records_are_refused(copy: Path, tmp_path: Path) -> None:
    first, second = (run_of(copy, f"unet-dualpol-s{seed}") for seed in (0, 1))
    shutil.copyfile(first / "scores.parquet", second / "scores.parquet")
    with pytest.raises(BadInput, match=r"does not follow from its records: tables/.*--tables-only"):
        write_bundle(copy, tmp_path / "b.zip")
    (copy / "tables" / "main.tex").unlink()
    with pytest.raises(BadInput, match="does not follow"):
        write_bundle(copy, tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


def test_what_can_not_be_bundled_is_one_line(copy: Path, tmp_path: Path, polarcast_here: Here) -> None:
    text = (copy / "suite.yaml").read_text()
    with sole_writer(copy):
        assert "another process is working here" in polarcast_here("bench", "bundle", copy, "-o", tmp_path / "b.zip")[2]
    (copy / "suite.yaml").write_text(text.replace("preset: demo", "preset: mine.yaml", 1))
    assert "the preset of fitted is a file" in polarcast_here("bench", "bundle", copy, "-o", tmp_path / "b.zip")[2]
    (copy / "suite.yaml").write_text(text)
    shutil.rmtree(next(copy.glob("data-*")))
    assert "manifest.json" in polarcast_here("bench", "bundle", copy, "-o", tmp_path / "b.zip")[2]
    assert (
        "no suite was begun here"
        in polarcast_here("bench", "bundle", "demo", "--out", tmp_path, "-o", tmp_path / "b")[2]
    )
    assert "does not go with" in polarcast_here("bench", "bundle", copy, "--out", copy, "-o", tmp_path / "b.zip")[2]
    assert "is a folder" in polarcast_here("bench", "bundle", copy, "-o", tmp_path)[2]
    assert not (tmp_path / "b.zip").exists()


def test_it_is_named_as_in_bench_run(
    copy: Path, bundled: Path, tmp_path: Path, polarcast_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    copy.rename(tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    code, out, _ = polarcast_here("bench", "bundle", "demo", "-o", "demo.zip", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["suite"], told["runs"], told["left_out"]) == ("small", 5, [])
    assert (tmp_path / "demo.zip").read_bytes() == bundled.read_bytes()
    assert "small: 5 runs" in polarcast_here("bench", "bundle", "runs/demo", "-o", "demo.zip")[1]

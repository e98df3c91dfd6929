"""A damaged run, trial or study does not hide the good ones."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.config.load import load_config
from polarcast.hpc.leaderboard.entry import find_entries
from polarcast.hpc.leaderboard.ranking import make_boards
from polarcast.hpc.leaderboard.verify import add
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.records import Records, write_records
from polarcast.hpc.scores.sums import families

Run = Callable[..., tuple[int, str, str]]
KNOWN = {
    "code": {"commit": "c0ffee", "diff_sha256": ""}, "data": {"digest": "d1", "archive": {"preset": "tiny"}},
    "packages": {"torch": "2"}, "python": "3.11", "machine": "x86_64", "host": "elsewhere",
}  # fmt: skip
INFORMATIVE = ("card.json", "log.jsonl")
FILES = ("config.yaml", "provenance.json", "scores.parquet", "verified.json", *INFORMATIVE)


def records(error: float = 1.0, events: int = 8) -> Records:
    protocol = Protocol(unit="mm/h", shape=(8, 8))
    draw = np.random.default_rng(0)
    sums = {
        name: error * draw.uniform(1, 2, (events, 1, 1, *family.shape(protocol))).round(3)
        for name, family in families(protocol).items()
    }
    sums["observed"][:] = 8 * 8  # one window of each event, observed everywhere, with a forecast at every pixel
    return Records(protocol, np.arange(events), sums)


def a_run(folder: Path, error: float) -> Path:
    run = RunFolder(folder)
    run.start(load_config("demo"))
    run.provenance_file.write_text(json.dumps(KNOWN))
    write_records(run.output.scores, records(error))
    run.log(event="start", step=0, world_size=1)
    run.log(event="step", step=10, seconds=0.1, joules=5.0)
    (folder / "card.json").write_text(json.dumps({"parameters": 12, "forecast_flops": 3}))
    (folder / "verified.json").write_text(json.dumps({"verified": True, "scores_sha256": sha256(run.output.scores)}))
    return folder


def sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    a_run(root / "good", 2.0)
    a_run(root / "bad", 1.0)
    return root


def replaced(content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(content)

    return change


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link(target: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return change


def truncated(path: Path) -> None:
    """Cut a file where settings other than the defaults are lost: without those, a configuration is the same."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
    path.write_bytes(bytes(content))


ZEROS = b"0" * 400
DAMAGE: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": replaced(b""),
    "truncated": truncated,
    "random": replaced(np.random.default_rng(1).bytes(5000)),
    "flipped": flipped,
    "zeros": replaced(bytes(4096)),
    "binary": replaced(b"\x89PNG\r\n\x1a\n\x00\xff\xfe"),
    "list": replaced(b'[1, "a", null]'),
    "number": replaced(b"7"),
    "text": replaced(b'"\xc3\xbc"'),
    "latin-1": replaced(b'{"name": "\xfc"}'),
    "other types": replaced(b'{"task": 3, "code": [], "data": [1], "verified": "yes", "parameters": "many"}'),
    "NaN": replaced(b'{"code": NaN, "data": {"digest": NaN, "archive": NaN}, "parameters": NaN, "event": "step"}'),
    "huge": replaced(b'{"parameters": 1%s, "event": "step", "step": 1e999, "seconds": 1%s}' % (ZEROS, ZEROS)),
    "deep": replaced(b"[" * 100_000),
    "folder": as_folder,
    "broken link": as_link("nowhere"),
    "loop": as_link("."),
}  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_damaged_files_of_runs_do_not_hide_another_run(two_runs: Path, tmp_path: Path, file: str) -> None:
    root = tmp_path / "runs"
    shutil.copytree(two_runs / "good", root / "good")
    for damage, change in DAMAGE.items():
        shutil.copytree(two_runs / "bad", root / damage)
        change(root / damage / file)
    board = ranked(root)
    places = {place.entry.name for place in board.places}
    reasons = {entry.name: reason for entry, reason in board.unranked}
    assert "good" in places
    json.dumps(board.as_record(), allow_nan=False)
    if file in INFORMATIVE:
        assert places == {"good", *DAMAGE}
    elif file == "verified.json":
        assert places == {"good", "missing"}
        assert all("verified" in reasons[damage] for damage in set(DAMAGE) - {"missing"})
    else:
        assert places == {"good"}
        known = "unknown: source revision" if file == "provenance.json" else file
        assert not [damage for damage in DAMAGE if file not in reasons[damage] and known not in reasons[damage]]
    assert all(len(reason.splitlines()) == 1 and len(reason) < 300 for reason in reasons.values())


def ranked(root: Path) -> Any:
    [board, *empty] = sorted(make_boards(find_entries([root])), key=lambda board: -len(board.places))
    for other in empty:
        board.unranked.extend(other.unranked)
    return board


def broken_records(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(change(pq.read_table(path)), path)


def with_metadata(**changes: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        metadata = dict(table.schema.metadata)
        protocol = json.loads(metadata[b"protocol"])
        metadata[b"protocol"] = json.dumps({**protocol, **changes.pop("protocol", {})}).encode()
        return table.replace_schema_metadata({**metadata, **{k.encode(): v for k, v in changes.items()}})

    return change


def with_values(value: float) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        column = table["continuous"].combine_chunks()
        values = pa.array(np.full(len(column.flatten()), value))
        at = table.column_names.index("continuous")
        return table.set_column(at, "continuous", pa.FixedSizeListArray.from_arrays(values, column.type.list_size))

    return change


RECORDS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "no rows": (lambda table: table.slice(0, 0), "scores.parquet"),
    "a row twice": (lambda table: pa.concat_tables([table, table.slice(0, 1)]), "scores.parquet"),
    "no events": (lambda table: table.drop_columns(["event"]), "scores.parquet"),
    "no rmse": (lambda table: table.drop_columns(["continuous"]), "no rmse in its records"),
    "NaN": (with_values(float("nan")), "not finite"),
    "huge": (with_values(1e308), "not finite"),
    "other version": (with_metadata(polarcast=b"polarcast-scores/9"), "scores.parquet"),
    "other unit": (with_metadata(protocol={"unit": "K"}), "scores.parquet"),
    "unknown key": (with_metadata(protocol={"colour": 3}), "scores.parquet"),
    "wrong type": (with_metadata(protocol={"shape": "big", "lead_time": 7}), "scores.parquet"),
    "no thresholds": (with_metadata(protocol={"threshold": None}), "scores.parquet"),
}


@pytest.mark.parametrize("damage", RECORDS)
def test_records_with_wrong_content_do_not_hide_another_run(two_runs: Path, tmp_path: Path, damage: str) -> None:
    change, reason = RECORDS[damage]
    root = tmp_path / "runs"
    shutil.copytree(two_runs, root)
    (root / "bad" / "verified.json").unlink()
    broken_records(change)(root / "bad" / "scores.parquet")
    board = ranked(root)
    assert [place.entry.name for place in board.places] == ["good"]
    assert reason in {entry.name: why for entry, why in board.unranked}["bad"]


def test_a_board_of_damaged_runs_alone_lists_them(two_runs: Path, tmp_path: Path, polarcast_here: Run) -> None:
    shutil.copytree(two_runs / "bad", tmp_path / "runs" / "bad")
    (tmp_path / "runs" / "bad" / "config.yaml").write_text("[")
    code, out, _ = polarcast_here("leaderboard", tmp_path / "runs", "--html", tmp_path / "new" / "b.html", "--json")
    assert code == 0
    [bad] = json.loads(out)["boards"][0]["not_ranked"]
    assert "config.yaml" in bad["reason"]
    assert "config.yaml" in (tmp_path / "new" / "b.html").read_text("utf-8")


def test_a_name_that_is_not_utf8_does_not_end_the_board(two_runs: Path, tmp_path: Path, polarcast_here: Run) -> None:
    shutil.copytree(two_runs / "good", tmp_path / "runs" / "good")
    shutil.copytree(two_runs / "bad", tmp_path / "runs" / os.fsdecode(b"sturm-\xfc"))
    code, out, _ = polarcast_here(
        "leaderboard", tmp_path / "runs", "--html", tmp_path / "b.html", "--csv", tmp_path / "b.csv"
    )
    assert code == 0
    assert "sturm-" in out
    assert all(
        "sturm-\\udcfc" in (tmp_path / name).read_text("utf-8").replace("\\\\", "\\") for name in ("b.csv", "b.html")
    )


def test_adding_an_own_run_does_not_unrank_it(two_runs: Path, tmp_path: Path) -> None:
    import platform

    run = tmp_path / "runs" / "own"
    shutil.copytree(two_runs / "good", run)
    (run / "verified.json").unlink()
    (run / "provenance.json").write_text(json.dumps({**KNOWN, "host": platform.node()}))
    with pytest.raises(BadInput, match="made on this machine"):
        add(run, None, None)
    assert [place.entry.name for place in ranked(tmp_path / "runs").places] == ["own"]


# --- suites ---------------------------------------------------------------------------------------------------------


def test_damaged_records_of_a_cell_are_left_out_of_the_tables(tmp_path: Path) -> None:
    from polarcast.hpc.bench.cells import Cell
    from polarcast.hpc.bench.figures.source import Kept
    from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec
    from polarcast.hpc.bench.table import build_table
    from polarcast.hpc.bench.unfinished import finished_part
    from polarcast.hpc.runs.folder import Output

    models = {name: ModelSpec(label=name) for name in ("good", "bad")}
    suite = Suite(name="s", arms=["radar"], models=models, tables={"t": TableSpec(title="T")})
    outputs = []
    for name in models:
        output = Output(tmp_path / name / "scores.parquet", tmp_path / name / "cases.npz")
        write_records(output.scores, records())
        np.savez(
            output.cases, **{part: np.ones((2, 8)) for part in ("radar", "observed", "forecast", "event", "frame")}
        )
        outputs.append((Cell(name, "radar", 0, load_config("demo")), output))
    flipped(outputs[1][1].scores)
    flipped(outputs[1][1].cases)
    part, kept, note = finished_part(suite, outputs, tmp_path)
    assert [cell.model for cell, _ in kept] == ["good"]
    assert "scores.parquet is damaged: bad" in note
    assert {r.model for r in build_table("t", part, {("good", "radar"): [records()]}).records} == {"good"}
    assert [Kept(cell.model, "radar", output.cases).is_readable for cell, output in outputs] == [True, False]


# --- sweeps ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweep_folder(tmp_path: Path) -> tuple[Path, Any]:
    from polarcast.sweeps.space import load_space
    from polarcast.sweeps.study import open_study

    (tmp_path / "mine.yaml").write_text("parameters: {train.learning_rate: {log_uniform: [1.0e-4, 1.0e-1]}}")
    space, folder = load_space(str(tmp_path / "mine.yaml")), tmp_path / "sweep"
    folder.mkdir()
    study = open_study(folder, space)
    for value in (3.0, 2.0):
        study.tell(study.ask({"train.learning_rate": space.parameters[0].as_distribution()}), value)
    return folder, space


def completed_trials(folder: Path, space: Any) -> None:
    from polarcast.sweeps.record import COMPLETE, Trial, TrialReport, key_of, write_trial

    for number in (1, 2):
        point = {"train.learning_rate": 1e-3 * number}
        trial = Trial(key_of(point), point, 9, float(number), COMPLETE, reports=[TrialReport(9, 1.0 / number, {})])
        write_trial(folder / "trials" / trial.key, trial)


@pytest.mark.parametrize("torn", [b'{"op_code":5,"worker_id":"a', b"\xff\x00", b"\n\n[]\n7\n"])
def test_a_torn_study_does_not_end_the_sweep(sweep_folder: tuple[Path, Any], torn: bytes) -> None:
    from polarcast.sweeps.study import mend_study, open_study

    folder, space = sweep_folder
    with (folder / "study.log").open("ab") as stream:
        stream.write(torn)
    mend_study(folder, space)
    study = open_study(folder, space)
    study.tell(study.ask({"train.learning_rate": space.parameters[0].as_distribution()}), 1.0)
    assert [trial.value for trial in open_study(folder, space).trials] == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    "damage",
    [b'{"op_code":4}\n', b'{"op_code":0,"study_name":3,"directions":"x","worker_id":"a"}\n', b"\x00" * 99, None],
)
def test_a_damaged_study_is_made_again_from_the_trials(sweep_folder: tuple[Path, Any], damage: bytes | None) -> None:
    from polarcast.sweeps.study import mend_study, open_study

    folder, space = sweep_folder
    completed_trials(folder, space)
    (folder / "study.log").unlink()
    if damage is None:
        (folder / "study.log").mkdir()
    else:
        (folder / "study.log").write_bytes(damage)
    mend_study(folder, space)
    study = open_study(folder, space)
    assert len(study.trials) in (0, 2)
    study.tell(study.ask({"train.learning_rate": space.parameters[0].as_distribution()}), 1.0)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_trial_does_not_hide_the_others(sweep_folder: tuple[Path, Any], damage: str) -> None:
    from polarcast.sweeps.record import read_trials
    from polarcast.sweeps.render import table
    from polarcast.sweeps.result import result_of, write_result

    folder, space = sweep_folder
    completed_trials(folder, space)
    good, bad = read_trials(folder)
    DAMAGE[damage](folder / "trials" / bad.key / "trial.json")
    result = result_of(folder, space)
    write_result(folder, result)
    assert good in result.trials
    assert table(result).row_count == len(result.trials)

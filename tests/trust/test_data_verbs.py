"""`polarcast data …`: wrong calls end in one line before the work, and two calls at once lose nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import Archive, open_archive, write_event
from polarcast.data.check.archive import check_archive
from polarcast.data.errors import BadInput
from polarcast.data.explore.explore import explore
from polarcast.data.files import sole_writer
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.run import IngestSettings, ingest
from polarcast.data.shards.manifest import Manifest
from polarcast.data.synth.generate import write_archive
from tests.support import warm
from tests.support.grid_files import speckle, write_npz

Call = Callable[..., tuple[int, str, str]]

WRONG = """
synth {file}
synth {file}/out
synth {long}
synth {readonly}/out
synth {shards}
synth {archive} --seed 3
synth {bare}
synth out --events 0
synth out --events -1
synth out --events 100000000000
synth out --size 0
synth out --size 31
synth out --size 1e9
synth out --size nan
synth out --seed -1
synth out --seed nan
synth out --frames 0
synth out --frames -1
synth out --preset mars
synth out --preset ../demo
synth out --rain mud
synth out --workers 0
synth out --workers -2
synth out --workers 999999
shard nowhere out
shard {file} out
shard {empty} out
shard {shards} out
shard {archive} {file}
shard {archive} {file}/out
shard {archive} {long}
shard {archive} {archive}
shard {archive} {readonly}/out
shard {archive} .
shard {archive} /
shard {archive} out --variables foo
shard {archive} out --variables ,
shard {archive} out --variables zh,zh
shard {archive} out --heights foo
shard {archive} out --heights 2
shard {archive} out --heights nan
shard {archive} out --heights 1,1
shard {archive} out --split nan/nan/nan
shard {archive} out --split 1/1/1
shard {archive} out --split -1/1/1
shard {archive} out --split inf/0/0
shard {archive} out --split 1/0
shard {archive} out --split paperback
shard {archive} out --seed nan
shard {archive} out --shard-mb -1
shard {archive} out --min-strong-pixels -1
shard {archive} out --workers 0
shard {archive} out --workers -2
index nowhere
index {file}
index {empty}
index {archive}
index {shards}
index {tars} --variables foo
index {tars} --variables zh,zh
index {tars} --variables ,
index {tars} --heights foo
index {tars} --heights nan
index {tars} --heights -1
index {tars} --heights 1,1
index {tars} --spacing-km 0
index {tars} --spacing-km nan
index {tars} --step-minutes -6
index {tars} --step-minutes inf
index {tars}
check nowhere
check {file}
check {empty}
check {archive} --workers 0
check {archive} --workers -2
explore nowhere out
explore {file} out
explore {empty} out
explore {shards} out
explore {archive} {file}
explore {archive} {file}/out
explore {archive} {readonly}/out
explore {archive} out --events 0
explore {archive} out --events -1
explore {archive} out --beside mars
explore {archive} out --workers 0
explore {bare} out
explore {narrow} out
ingest out
ingest out nowhere
ingest out {empty}
ingest out {long}
ingest {file} {sequence}
ingest {archive} {sequence}
ingest {empty}/../file/out {sequence}
ingest {readonly}/out {sequence}
ingest out {sequence} --size 0
ingest out {sequence} --size -8
ingest out {sequence} --min-dbz nan
ingest out {sequence} --step-minutes 0
ingest out {sequence} --step-minutes nan
ingest out {sequence} --step-minutes 1e-9
ingest out {sequence} --max-gap-minutes -1
ingest out {sequence} --max-gap-minutes nan
ingest out {sequence} --variables foo
ingest out {sequence} --variables zdr
ingest out {sequence} --variables zh,zh
ingest out {sequence} --heights foo
ingest out {sequence} --heights nan
ingest out {sequence} --heights -1
ingest out {sequence} --heights 1e-7
ingest out {sequence} --spacing-km 0
ingest out {sequence} --spacing-km -1
ingest out {sequence} --spacing-km nan
ingest out {sequence} --min-rhohv nan
ingest out {sequence} --max-texture inf
ingest out {sequence} --min-coverage 2
ingest out {sequence} --min-coverage nan
ingest out {sequence} --height-km nan
ingest out {sequence} --band Q
ingest out {sequence} --rain mud
ingest out {sequence} --units furlongs
ingest out {sequence} --workers 0
ingest out {sequence} --workers -2
ingest out /dev/null
ingest out {fifo}
"""


@pytest.fixture(scope="module")
def places(
    archive: Archive, shards: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, object]]:
    """Paths that the calls name."""
    given = tmp_path_factory.mktemp("given")
    (given / "file").write_text("nothing useful")
    for folder in ("empty", "tars", "readonly", "bare"):
        (given / folder).mkdir()
    (given / "tars" / "a.tar").write_bytes(b"no tar")
    os.mkfifo(given / "fifo")
    fields = np.ones((2, 3, 3, 32, 40), np.float32)
    write_event(given / "narrow", 0, fields, fields[:, 0, 0])
    write_event(given / "bare", 0, fields[:, :1, :1], None, variables=("zh",), heights_km=(1.0,))
    sequence = write_npz(given / "sequence.npz", speckle((2, 32, 32)))
    (given / "readonly").chmod(0o500)
    names = ("file", "empty", "tars", "readonly", "bare", "narrow", "fifo")
    yield {
        **{name: given / name for name in names}, "archive": archive.root, "shards": shards.folder,
        "sequence": sequence, "long": "n" * 300,
    }  # fmt: skip
    (given / "readonly").chmod(0o700)


@pytest.mark.parametrize("line", WRONG.strip().splitlines())
def test_a_wrong_call_does_no_work_and_ends_in_one_line(
    line: str, places: Mapping[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polarcast_here: Call
) -> None:
    if "readonly" in line and os.geteuid() == 0:
        monkeypatch.setattr(os, "access", lambda path, *_: "readonly" not in str(path))  # root may write anywhere
    monkeypatch.chdir(tmp_path)
    code, out, err = polarcast_here("data", *(word.format(**places) for word in line.split()))
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert list(tmp_path.iterdir()) == []
    if "left out" in out:  # a file that can't be ingested
        assert code == 2
    elif "Usage: " not in err:
        assert [text[:11] for text in err.splitlines()] == ["polarcast: "]
    assert code == 2


def started(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "polarcast.hpc.cli", "data", *map(str, arguments)]
    return warm.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(path: Path, work: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert work.poll() is None
        time.sleep(0.01)


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_two_syntheses_in_one_folder_do_not_mix_and_a_killed_one_leaves_no_half_event(tmp_path: Path) -> None:
    out = tmp_path / "archive"
    options = {"size": 32, "seed": 1, "preset": "tiny", "frames": 2}
    first = started("synth", out, "--events=4000", "--workers=1", *(f"--{k}={v}" for k, v in options.items()))
    try:
        wait_for(out / "NJU_CPOL_kdpRain" / "data_dir_000", first)
        with pytest.raises(BadInput, match="another process is working here"):
            write_archive(out, 3, **options)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    write_archive(out, 3, **options)
    write_archive(tmp_path / "undisturbed", 3, **options)
    found = content(out)
    assert all(found[name] == whole for name, whole in content(tmp_path / "undisturbed").items())
    made = open_archive(out)
    assert {len(frames) for frames in made.frames.values()} == {2}


def test_two_ingests_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    for number in range(3):
        data = speckle((3, 40, 40)) + number
        write_npz(tmp_path / "given" / f"{number}.npz", data)
    out = tmp_path / "archive"
    settings = IngestSettings(sequences=GridSettings(tile=32))
    first = started("ingest", out, tmp_path / "given", "--size=32", "--workers=1")
    try:
        wait_for(out / ".lock", first)
        with pytest.raises(BadInput, match="another process is working here"):
            ingest(out, [tmp_path / "given"], settings)
    finally:
        assert first.wait(60) == 0
    assert list(open_archive(out).frames) == [0, 1, 2]


def test_two_explorations_into_one_folder_do_not_mix(archive: Archive, tmp_path: Path) -> None:
    with sole_writer(tmp_path / "out"), pytest.raises(BadInput, match="another process is working here"):
        explore(archive, tmp_path / "out")


def test_synth_does_not_write_into_an_archive_of_others(archive: Archive, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(archive.root, theirs)
    (theirs / "archive.json").unlink()
    before = content(theirs)
    with pytest.raises(BadInput, match="not made by synth"):
        write_archive(theirs, 20, size=32, seed=0)
    assert content(theirs) == before


def test_brackets_in_a_path_are_not_markup(tmp_path: Path, polarcast_here: Call) -> None:
    out = tmp_path / "sh[red]"
    options = "--events 1 --size 32 --preset tiny --frames 1 --workers 1"
    code, text, err = polarcast_here("data", "synth", out, *options.split())
    assert (code, err) == (0, "")
    assert text.splitlines() == [f"1 events in {out}", f"next: polarcast data shard {out} shards"]


@pytest.mark.parametrize(
    "description",
    ["[]", "{", '{"preset": "mars"}', '{"seed": -1}', '{"size": 1e9}', '{"time_step_min": "x"}', '{"spacing_km": NaN}'],
)
def test_damaged_metadata_of_an_archive_is_no_traceback(
    description: str, archive: Archive, tmp_path: Path, polarcast_here: Call
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(archive.root, theirs)
    note = theirs / "archive.json"
    whole = json.loads(note.read_text())
    note.write_text(json.dumps({**whole, **json.loads(description)}) if ":" in description else description)
    code, _, err = polarcast_here("data", "shard" if "_" in description else "explore", theirs, tmp_path / "out")
    assert code == 2
    assert [text[:11] for text in err.splitlines()] == ["polarcast: "]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0, 40, 3e38, -3e38])
def test_a_check_of_constant_fields_prints_no_warnings(value: float, tmp_path: Path) -> None:
    fields = np.full((5, 3, 3, 32, 32), value, np.float32)
    write_event(tmp_path, 0, fields, fields[:, 0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_archive(open_archive(tmp_path))

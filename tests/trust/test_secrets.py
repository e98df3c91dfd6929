"""A secret in a data location stands in the run's config.yaml only, which nobody else can read."""

import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import polarcast as pc
from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import describe, read_provenance

PASSWORD = "PASS-5f2c91"
Result = tuple[int, str, str]
SETTINGS = [
    "model.widths=[4,8]", "match_params=false", "train.steps=2", "train.validate_every=1", "train.global_batch=4",
    "train.threads=1", "data.reader=stream", "train.track=[tensorboard]",
]  # fmt: skip


def pipe_to(folder: object, more: str = "") -> str:
    return f"pipe:token={PASSWORD}{more} cat {folder}/{{name}}"


def content(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, and those that it holds compressed."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        yield f"{table.schema.metadata} {table.to_pydict()}".encode()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def holders(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(PASSWORD.encode() in part for part in content(path))]


def test_a_secret_of_the_command_line_reaches_no_record(
    shards: Manifest,
    archive: Archive,
    tmp_path: Path,
    polarcast_here: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, given = tmp_path / "run", f"data.shards={pipe_to(shards.folder)}"
    train = ("train", "demo", given, *SETTINGS, "--out", run)
    commands = [
        train,
        ("evaluate", run, "--trust"),
        ("predict", run, archive.root, run / "rain.nc", "--event", 1, "--no-picture"),
        ("track", "replay", run, "--to", "wandb"),
        train,
        (*train[:2], f"data.shards={pipe_to(shards.folder, '2')}", *train[3:]),
        (*train, "seed=7"),
        ("train", "demo", f"data.shards={pipe_to('/nowhere')}", *SETTINGS, "--out", "b"),
    ]
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    codes = []
    for command in commands:
        code, out, err = polarcast_here(*command)
        codes.append(code)
        assert PASSWORD not in out + err, command
    assert codes == [0, 0, 0, 0, 0, 0, 2, 2]
    assert list(run.glob("wandb/offline-run-*"))
    assert list(run.glob("tensorboard/events*"))
    assert holders(tmp_path) == [run / "config.yaml"]
    assert (run / "config.yaml").stat().st_mode & 0o777 == 0o600
    assert RunFolder(run, trust=True).config().data.shards == pipe_to(shards.folder, "2")


def test_a_configuration_with_a_remote_location_is_private(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.start(pc.load_config("demo", ["data.shards=pipe:cat /a/{name}"]))
    assert folder.config_file.stat().st_mode & 0o777 == 0o600
    folder.start(pc.load_config("demo", ["data.shards=a"]))
    assert folder.config_file.stat().st_mode & 0o044, "colleagues rank and evaluate it"
    folder.start(pc.load_config("demo", [f"data.shards=https://me:{PASSWORD}@host/shards"]))
    assert folder.config_file.stat().st_mode & 0o777 == 0o600
    assert PASSWORD in folder.config_file.read_text()


def test_a_submitted_configuration_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("polarcast._jobs.has_slurm", lambda: True)
    monkeypatch.setattr("polarcast._jobs.by_sbatch", lambda script: "1")
    found = pc.submit(pc.load_config("demo", [f"data.shards=https://me:{PASSWORD}@host/shards"]))
    assert found.config.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in found.script


def test_a_manifest_carries_no_secret_into_provenance(shards: Manifest, tmp_path: Path) -> None:
    from dataclasses import replace

    root = f"https://me:{PASSWORD}@host/archive"
    made = describe(replace(shards, provenance={**shards.provenance, "root": root}))
    assert PASSWORD not in str(made)
    assert made["data"]["archive"]["size"] == shards.provenance["size"]
    (tmp_path / "provenance.json").write_text(f'{{"data": {{"folder": "{root}"}}, "code": "text"}}')
    older = read_provenance(tmp_path / "provenance.json")
    assert PASSWORD not in str(older)
    assert "code" not in older


def test_messages_and_warnings_have_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    url = f"https://host/shard.tar?X-Amz-Signature={PASSWORD}"
    assert PASSWORD not in str(BadInput("can't be read", url))
    assert str(BadInput("is a folder", "/etc/passwd", "choose another")) == "/etc/passwd: is a folder — choose another"
    with caplog.at_level(logging.WARNING, "polarcast"):
        logging.getLogger("polarcast").warning("polarcast: %s: no data", url)
    assert caplog.messages
    assert PASSWORD not in caplog.text

"""Collect the files of a finished suite for a bundle, without secrets and without places of this machine."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from polarcast.data.errors import BadInput, shown
from polarcast.data.files import has_writer, read_json, read_limited
from polarcast.data.secrets import redacted, redacted_tree
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.hpc.bench.analyses import robustness_made_from
from polarcast.hpc.bench.bundle import note as form
from polarcast.hpc.bench.bundle.note import Bundle, BundleNote, most_of, parsed_json
from polarcast.hpc.bench.cells import Cell, SuiteFolder, cells_of
from polarcast.hpc.bench.failures import FILE as FAILED_FILE
from polarcast.hpc.bench.failures import failure_note, failures_of
from polarcast.hpc.bench.notes import gain_note
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.rescore import is_suite, saved_suite
from polarcast.hpc.bench.robustness.result import MADE_FROM
from polarcast.hpc.bench.robustness.run import records_of_result
from polarcast.hpc.bench.suite import Suite, start_of
from polarcast.hpc.bench.unfinished import is_scored
from polarcast.hpc.bench.verdict import FILE as VERDICT_FILE
from polarcast.hpc.config.schema import BaseRun, RunConfig
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.utils.versions import package_versions
from polarcast.hpc.zoo.card import without_places
from polarcast.hpc.zoo.note import file_entry

_LEFT_OUT = ("explain", "robustness", "confirm", "on")
_SHARDS = "shards"
WRITE_AGAIN = "write the tables again: polarcast bench run SUITE --tables-only"


def collect(folder: Path) -> Bundle:
    """Return the bundle of a finished suite; the same for every copy of its folder.

    Raises:
        BadInput: the folder is no suite, its runs are not finished, tables are missing, another process works there, a
            model's preset is a file, or a member is too large.
    """
    if not is_suite(folder):
        raise BadInput("no finished suite", folder, "run it first: polarcast bench SUITE")
    if os.access(folder, os.W_OK) and has_writer(folder):
        raise BadInput("another process is working here", folder, "wait for it, or stop it first")
    suite = saved_suite(folder)
    check_presets(suite, folder)
    files = SuiteFolder(folder, suite.data)
    manifest = read_manifest(files.shards)
    cells = cells_of(suite, files.shards)
    _check_finished(cells, files, manifest)
    members: dict[str, bytes] = {
        form.SUITE: redacted(OmegaConf.to_yaml(OmegaConf.structured(_moved(suite)))).encode(),
        form.MANIFEST: _manifest_text(manifest).encode(),
    }
    for cell in sorted(cells, key=lambda one: files.cell(one, manifest).path.name):
        run = files.cell(cell, manifest)
        members |= {f"{form.CELLS}/{run.path.name}/{name}": content for name, content in _of_cell(run)}
    members |= dict(_tables(suite, folder))
    members |= dict(_robustness(suite, files, cells, manifest))
    for name, content in members.items():
        if len(content) > most_of(name):
            raise BadInput(f"{name} has {len(content)} bytes; the most are {most_of(name)}", folder, "shorten it")
    lacking = [cell for cell in cells if not is_scored(files.cell(cell, manifest).output)]
    failures = failures_of(suite, lacking, lambda cell: files.cell(cell, manifest).path)
    note = BundleNote(
        suite=suite.name,
        polarcast=version_of_polarcast(),
        data=manifest.digest(),
        about_data=_about_data(suite, members, folder, failure_note(failures)),
        left_out=tuple(_left_out(folder, members)),
        files={name: file_entry(content) for name, content in members.items()},
    )
    return Bundle(note, members)


def version_of_polarcast() -> str:
    """Return the version of polarcast that runs."""
    return str(package_versions(("polarcast",))["polarcast"])


def check_presets(suite: Suite, where: object) -> None:
    """Raise BadInput for a model whose preset is a file: only names of presets mean the same elsewhere."""
    if files := [name for name, spec in suite.models.items() if spec.preset.endswith((".yaml", ".yml"))]:
        what = f"the preset of {files[0]} is a file, {shown(suite.models[files[0]].preset)}"
        raise BadInput(what, where, "name a preset of polarcast, and write its changes below set")


def _check_finished(cells: Sequence[Cell], files: SuiteFolder, manifest: Manifest) -> None:
    """Raise BadInput if a run is not scored, and neither it nor a run that it needs is recorded as failed."""
    runs = {id(cell): files.cell(cell, manifest) for cell in cells}
    missing = [cell for cell in cells if not is_scored(runs[id(cell)].output)]

    def has_failed(cell: Cell) -> bool:
        return bool(read_json(runs[id(cell)].path / FAILED_FILE)) or any(map(has_failed, cell.needs))

    if open_ones := [cell for cell in missing if not has_failed(cell)]:
        what = f"unfinished suite: {len(open_ones)} of {len(cells)} runs are not scored, such as "
        raise BadInput(what + runs[id(open_ones[0])].path.name, files.path, "run it to its end: polarcast bench SUITE")


def _moved(suite: Suite) -> Suite:
    """Return the suite without folders of this machine."""
    for spec in suite.models.values():
        start = start_of(spec)
        if isinstance(start, dict) and isinstance(start.get("run"), str):
            spec.set["train"]["start_from"] = {**start, "run": ""}
    archive = suite.data.archive and without_places(suite.data.archive)
    return replace(suite, data=replace(suite.data, archive=archive))


def without_folders(config: RunConfig) -> RunConfig:
    """Return a configuration without folders of a machine and without trackers; its digest is the same."""
    data = replace(config.data, shards=_SHARDS, stage_to=None)
    moved = replace(config, data=data, train=replace(config.train, track=[]))
    start = config.start and replace(config.start, run="", config=without_folders(config.start.config))
    bases = [BaseRun("", without_folders(base.config)) for base in config.bases]
    return moved.with_start(start).with_bases(bases)


def _manifest_text(manifest: Manifest) -> str:
    moved = replace(manifest, provenance=without_places(redacted_tree(manifest.provenance)))
    return moved.to_json() + "\n"


def _of_cell(run: RunFolder) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a run that a bundle holds; those that are missing are left out."""
    if run.config_file.is_file():
        content = OmegaConf.to_yaml(
            OmegaConf.create(without_folders(RunFolder(run.path, trust=True).config()).to_dict())
        )
        yield form.CONFIG, redacted(content).encode()
    known = {
        form.PROVENANCE: read_provenance(run.provenance_file),
        form.CARD: redacted_tree(read_json(run.path / form.CARD)),
        form.FAILED: redacted_tree(read_json(run.path / FAILED_FILE)),
    }
    yield from ((name, _json(without_places(content))) for name, content in known.items() if content)
    if is_scored(run.output):
        yield form.SCORES, _read(run.output.scores)
    if run.log_file.is_file():
        lines = (json.dumps(without_places(redacted_tree(record))) for record in run.records())
        yield form.LOG, "".join(f"{line}\n" for line in lines).encode()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _tables(suite: Suite, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the tables, the verdict, the costs and the report."""
    names = [f"{form.TABLES}/{table}.{kind}" for table in suite.tables for kind in form.KINDS]
    names += [f"{form.TABLES}/{VERDICT_FILE}", *(f"cost.{kind}" for kind in form.KINDS), form.REPORT]
    for name in names:
        if (folder / name).is_file():
            yield name, _read(folder / name)


def _robustness(
    suite: Suite, files: SuiteFolder, cells: Sequence[Cell], manifest: Manifest
) -> Iterator[tuple[str, bytes]]:
    """Yield the analysis that the suite asks for, with its records; nothing if that in the folder is another one."""
    made_from = read_json(files.path / form.ROBUSTNESS / MADE_FROM)
    if not suite.robustness or made_from != robustness_made_from(suite, files, cells, manifest):
        return
    for name in form.ROBUSTNESS_FILES:
        yield name, _read(files.path / name)
    for path in sorted(records_of_result(suite, files, manifest)):
        yield f"{form.CELLS}/{path.relative_to(files.cells).as_posix()}", _read(path)


def _left_out(folder: Path, members: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the folders that hold results of which no member is part."""
    for name in _LEFT_OUT:
        has_content = (folder / name).is_dir() and any((folder / name).iterdir())
        if has_content and not any(member.startswith(f"{name}/") for member in members):
            yield name


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, 2**30)
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", path, "restore it, or write it again") from None


def _about_data(suite: Suite, members: Mapping[str, bytes], folder: Path, failed: str) -> str:
    """Return the note on the data below the tables: their note without those on failures and the attainable gain.

    Raises:
        BadInput: the tables do not agree on it, as when some are of an earlier state of the suite.
    """
    found = set[str]()
    for table in suite.tables:
        name = f"{form.TABLES}/{table}.json"
        if name in members:
            found.add(_without_gain(members[name], folder / name, failed))
    if len(found) > 1:
        raise BadInput("its tables were written at different times", folder, WRITE_AGAIN)
    return next(iter(found), "")


def _without_gain(content: bytes, where: Path, failed: str) -> str:
    try:
        table = parsed_json(content, where)
        gain, note = gain_note([Record(**row) for row in table["records"]]), str(table["note"])
    except (LookupError, TypeError):
        raise BadInput("is damaged, or of another version", where, WRITE_AGAIN) from None
    for part in filter(None, (failed, gain)):  # in the order of their writing, the last first
        note = note.removesuffix(part).removesuffix("; ")
    return note

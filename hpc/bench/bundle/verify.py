"""Verify a bundle: compute its tables anew from its records, and compare configurations, numbers and sentences."""

import csv
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from polarcast.data.errors import BadInput, as_one_line, shown
from polarcast.data.files import read_json, write_text
from polarcast.data.loading.windows import windows_of
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.samples import EVENT
from polarcast.hpc.bench.bundle import note as form
from polarcast.hpc.bench.bundle.compare import (
    Agreement,
    AgreementCount,
    compared_json,
    compared_lines,
    compared_sentences,
)
from polarcast.hpc.bench.bundle.contents import check_presets, version_of_polarcast
from polarcast.hpc.bench.bundle.note import Bundle, parsed_json
from polarcast.hpc.bench.cells import Cell, CellKey, SuiteFolder, cells_of
from polarcast.hpc.bench.failures import failures_of
from polarcast.hpc.bench.origin import origin_of
from polarcast.hpc.bench.robustness.result import rows_of, write_robustness
from polarcast.hpc.bench.robustness.run import result_of_records
from polarcast.hpc.bench.run import is_synthetic, write_numbers
from polarcast.hpc.bench.suite import Suite, load_suite
from polarcast.hpc.bench.unfinished import Outputs, finished_part
from polarcast.hpc.bench.verdict import FILE as VERDICT_FILE
from polarcast.hpc.config.digest import digest, same_run
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.scores.continuous import MOMENTS
from polarcast.hpc.scores.records import Records, read_records
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.hpc.utils.text import csv_text, is_formula

CONFIGURATIONS = "configurations"
_MOST_RUNS = 5000
_EXACT = 1e-6
"""Largest error of sums of squares, relative to them; that of single-precision fields is much smaller."""
_FIX = "ask whoever made it for another copy"
_DAMAGE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError, RecursionError)
LIMIT = (
    "Not proven: that these records come from these networks. --rerun N trains some of them again; "
    f"{form.REPORT} is checked by its sum only."
)
"""What no computation from the records can show."""


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle that was read and unpacked.

    Attributes:
        bundle: Its content.
        where: Its file, for messages.
        folder: Private folder that it is unpacked in.
        suite: The suite.
        manifest: The manifest of the data, without the data.
        cells: Runs of the suite.
        folders: Name of the run folder of each cell that has one, by (model, arm, seed).
    """

    bundle: Bundle
    where: Path
    folder: Path
    suite: Suite
    manifest: Manifest
    cells: Sequence[Cell]
    folders: Mapping[CellKey, str]

    def run(self, cell: Cell) -> RunFolder:
        """Return the run folder of a cell, which may be missing."""
        return RunFolder(self.folder / form.CELLS / self.folders.get(cell.key, "missing"))

    def records(self, cell: Cell) -> Records:
        """Return the score records of a cell. Raises BadInput if there are none, or they are damaged."""
        return read_records(self.run(cell).output.scores)

    @property
    def scored(self) -> list[Cell]:
        """Cells with score records."""
        return [cell for cell in self.cells if self.run(cell).output.scores.is_file()]

    @property
    def lacking(self) -> list[Cell]:
        """Cells without score records."""
        return [cell for cell in self.cells if not self.run(cell).output.scores.is_file()]


@dataclass(frozen=True)
class Verification:
    """What was found: who made the bundle, and what agrees."""

    made: Mapping[str, Any]
    agreements: Sequence[Agreement]
    missing: Sequence[str]

    @property
    def is_ok(self) -> bool:
        """Whether everything agrees."""
        return all(one.is_ok for one in self.agreements)

    @property
    def has_its_configurations(self) -> bool:
        """Whether the configurations of the runs are those of the suite."""
        return all(one.is_ok for one in self.agreements if one.item == CONFIGURATIONS)

    def as_record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        found = [one.as_record() for one in self.agreements]
        return {"ok": self.is_ok, "made": dict(self.made), "items": found, "missing": [*self.missing], "limit": LIMIT}


@contextmanager
def open_bundle(path: Path) -> Iterator[OpenedBundle]:
    """Read the file of a bundle, which may be made by others, and unpack it into a private folder meanwhile.

    Raises:
        BadInput: it is no bundle, or holds what no bundle may hold.
    """
    bundle = Bundle.read(path)
    with tempfile.TemporaryDirectory(prefix="polarcast-bundle-") as folder:
        yield opened(bundle, Path(folder), path)


def opened(bundle: Bundle, folder: Path, where: Path) -> OpenedBundle:
    """Unpack a bundle into an empty private folder, and read its suite, manifest and runs.

    Raises:
        BadInput: a file is damaged, or holds what no bundle may hold.
    """
    _check_texts(bundle, where)
    bundle.unpack(folder)
    with _one_line(folder, where):
        suite = load_suite(str(folder / form.SUITE), is_stored=True)
        check_presets(suite, form.SUITE)
        runs = sum(len(suite.arms_of(model)) * len(suite.seeds_of(model)) for model in suite.models)
        if runs > _MOST_RUNS:
            raise BadInput(f"has {runs} runs; the most are {_MOST_RUNS}", form.SUITE, _FIX)
        manifest = read_manifest((folder / form.MANIFEST).parent)
        cells = cells_of(suite, Path("shards"))
    folders = _folders(cells, bundle, where)
    return OpenedBundle(bundle, where, folder, suite, manifest, cells, folders)


@contextmanager
def _one_line(folder: Path, where: Path) -> Iterator[None]:
    """Turn whatever content of others causes into BadInput, whose place is in the bundle, not in this folder."""
    try:
        yield
    except BadInput as error:
        name = error.where.replace(f"{folder}/", "")
        raise BadInput(error.what.replace(f"{folder}/", ""), f"{where}, {name}", _FIX) from None
    except _DAMAGE as error:
        what = f"its numbers can't be computed ({type(error).__name__}: {as_one_line(str(error)):.200})"
        raise BadInput(what, where, _FIX) from None


def _check_texts(bundle: Bundle, where: Path) -> None:
    """Raise BadInput for JSON that is damaged, and for cells that a spreadsheet would run as formulas."""
    for name, content in bundle.members.items():
        is_json = name.endswith(".json") and name != form.MANIFEST
        if is_json and not isinstance(parsed_json(content, f"{where}, {name}"), dict):
            raise BadInput("expected keys and values", f"{where}, {name}", _FIX)
        if name.endswith(".csv"):
            _check_csv(content, f"{where}, {name}")
        elif name.endswith((".md", ".tex", ".txt")):
            _text(content, f"{where}, {name}")


def _check_csv(content: bytes, where: str) -> None:
    try:
        for row in csv.reader(StringIO(_text(content, where))):
            if found := [cell for cell in row if is_formula(cell)]:
                raise BadInput(f"{shown(found[0])} is a formula that a spreadsheet would run", where, _FIX)
    except csv.Error as error:
        raise BadInput(f"damaged ({error})", where, _FIX) from None


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadInput("damaged (not UTF-8)", where, _FIX) from None


def _folders(cells: Sequence[Cell], bundle: Bundle, where: Path) -> dict[CellKey, str]:
    """Match run folders with the cells of the suite by model, arm and seed. Raises BadInput for one of no cell."""
    names = bundle.cells()
    found: dict[CellKey, str] = {}
    by_start = {f"{cell.model}-{cell.arm}-s{cell.seed}": cell.key for cell in cells}
    for name in names:
        parts = re.fullmatch(r"(.+)-[0-9a-f]{8}-[0-9a-f]{8}", name)
        key = by_start.get(parts[1]) if parts else None
        if key is None or key in found:
            raise BadInput(f"{shown(name)} is no run of its suite", f"{where}, {form.CELLS}", _FIX)
        found[key] = name
    return found


def verified(one: OpenedBundle) -> Verification:
    """Compare all of an unpacked bundle with what follows from it."""
    with _one_line(one.folder, one.where), tempfile.TemporaryDirectory(prefix="polarcast-again-") as again:
        agreements = [_runs(one), _configurations(one), _records(one)]
        part, outputs = _finished(one)
        about, synthetic = one.bundle.note.about_data, is_synthetic(one.manifest)
        failures = failures_of(one.suite, one.lacking, lambda cell: one.run(cell).path)
        write_numbers(part, Path(again), outputs, lambda cell: one.run(cell).path, about, synthetic, failures)
        if form.ROBUSTNESS_FILES[0] in one.bundle.members and all(of.is_ok for of in agreements[:2]):
            _write_robustness(one, Path(again) / form.ROBUSTNESS)
        agreements += _tables(one.bundle, Path(again))
        return Verification(_made(one), agreements, _missing(one))


def _write_robustness(one: OpenedBundle, again: Path) -> None:
    """Write the robustness analysis as it follows from the records of perturbed input."""
    folder = SuiteFolder(one.folder, one.suite.data)
    result = result_of_records(one.suite, folder, one.manifest, ProgressBoard(Console(quiet=True)))
    again.mkdir()
    write_robustness(again, result)
    rows = rows_of(result)
    write_text(again / Path(form.ROBUSTNESS_FILES[1]).name, csv_text(rows, list(rows[0])))


def _finished(one: OpenedBundle) -> tuple[Suite, Outputs]:
    """Return the suite and the files of its cells; of an unfinished suite, the part that its tables show."""
    outputs = [(cell, one.run(cell).output) for cell in one.cells]
    part, kept, _ = finished_part(one.suite, outputs, Path(form.CELLS))
    return part, kept


def _runs(one: OpenedBundle) -> Agreement:
    """Count the runs of the suite that are scored, or recorded as failed, as those are that need a failed one."""
    count, scored = AgreementCount(), {cell.key for cell in one.scored}

    def has_failed(cell: Cell) -> bool:
        failed = f"{form.CELLS}/{one.run(cell).path.name}/{form.FAILED}" in one.bundle.members
        return failed or any(map(has_failed, cell.needs))

    for cell in one.cells:
        is_told = cell.key in scored or has_failed(cell)
        count.one(f"{cell.model}-{cell.arm}-s{cell.seed}", "scores" if is_told else "nothing", "scores")
    return count.result("suite", "runs")


def sizes_of_data(one: OpenedBundle) -> tuple[str, str]:
    """Return events, frames of each and pixels of synthetic data: as the suite asks for, and as the manifest lists."""
    synth, rows = one.suite.data.synth, one.manifest.samples
    events, side = len(np.unique(rows[:, 1 + EVENT])), max(one.manifest.shape)
    frames = "any" if synth.frames is None else f"{len(rows) / max(1, events):g}"
    asked = f"{synth.events} events, {'any' if synth.frames is None else f'{synth.frames:g}'} frames"
    return f"{asked}, {synth.size} pixels", f"{events} events, {frames} frames, {side} pixels"


def _configurations(one: OpenedBundle) -> Agreement:
    """Compare the configuration of each run with the suite, and its digest and that of the data with the folder."""
    count, data = AgreementCount(), one.manifest.digest()
    count.one(f"{form.NOTE}: data", one.bundle.note.data, data)
    count.one(f"{form.NOTE}: suite", one.bundle.note.suite, one.suite.name)
    if one.suite.data.is_synthetic:
        count.one(f"{form.MANIFEST}: storms are synthetic", is_synthetic(one.manifest), True)
        count.one(f"{form.SUITE}: events, frames and pixels of its data", *sizes_of_data(one))
    for cell in one.cells:
        run = one.run(cell)
        if not run.config_file.is_file():
            if cell.key in one.folders and cell in one.scored:
                count.one(f"{run.path.name}: {form.CONFIG}", "missing", digest(cell.config)[:8])
            continue
        config = run.config()
        expected = cell.folder(Path(), data).name
        count.one(f"{run.path.name}: {form.CONFIG}", *_digests(config, cell.config))
        count.one("name of a run folder", run.path.name, expected)
        told = read_provenance(run.provenance_file).get("data", {}).get("digest", data)
        count.one(f"{run.path.name}: data in {form.PROVENANCE}", told, data)
        card = read_json(run.path / form.CARD)
        count.one(f"{run.path.name}: data in {form.CARD}", card.get("data", data), data)
        count.one(f"{run.path.name}: configuration in {form.CARD}", card.get("config", digest(config)), digest(config))
    return count.result(CONFIGURATIONS, "digests")


def _digests(stored: Any, of_suite: Any) -> tuple[str, str]:
    """Return the digests of two configurations; equal ones if they are of one run."""
    known = digest(of_suite)
    return (known if same_run(stored, of_suite) else digest(stored)), known


def _records(one: OpenedBundle) -> Agreement:
    """Compare data, events and groups of the score records with the manifest."""
    count, manifest = AgreementCount(), one.manifest
    for cell, file in _score_files(one):
        records, name = read_records(file), str(file.parent.relative_to(one.folder / form.CELLS))
        count.one(f"{name}: data that were scored", records.data, manifest.digest())
        odd = odd_events(records, cell.config, manifest)
        count.one(f"{name}: events with other windows than those of the test split", odd, [])
        groups = [manifest.group_of(event) for event in records.events.tolist()]
        count.one(f"{name}: groups of events", records.groups.tolist(), groups)
        count.one(f"{name}: size of the fields", records.protocol.shape, manifest.shape)
        count.one(f"{name}: squared errors that are not those of its other sums", odd_errors(records), 0)
    return count.result("score records", "facts of the data")


def _score_files(one: OpenedBundle) -> Iterator[tuple[Cell, Path]]:
    """Yield the files with score records of each run, of its evaluation and under perturbed input."""
    for cell in one.scored:
        run = one.run(cell)
        yield cell, run.output.scores
        yield from ((cell, file) for file in sorted(run.path.glob(f"{form.ROBUSTNESS}/*/{form.SCORES}")))


def odd_events(records: Records, config: RunConfig, manifest: Manifest) -> list[int]:
    """Return events with more or fewer windows than the test split has; `build_reader` finds the same windows.

    The pixels of an event tell its windows; of older records without this number, only the events are compared.
    """
    frames, targets = (config.frames + config.lead_frames, config.lead_frames) if config.is_nowcast else (1, None)
    windows = Counter(windows_of(manifest, "test", frames, targets, config.data.context).events().tolist())
    events = records.events.tolist()
    if "observed" not in records.sums:
        return sorted(windows.keys() ^ set(events))
    pixels = records.sums["observed"][:, 0, 0, 0] / records.protocol.pixels
    scored = dict(zip(events, pixels.tolist(), strict=True))
    return sorted(event for event in scored.keys() | windows.keys() if scored.get(event, 0) != windows[event])


def odd_errors(records: Records) -> int:
    """Return for how many events the sum of (f − o)² is not that of f² + o² − 2 f o."""
    if "continuous" not in records.sums:
        return 0
    of = dict(zip(MOMENTS, np.moveaxis(records.sums["continuous"], -1, 0), strict=True))
    squares = of["sum_sq_obs"] + of["sum_sq_fc"]
    odd = np.abs(squares - 2 * of["sum_obs_fc"] - of["sum_sq_error"]) > _EXACT * squares
    return int(odd.reshape(len(records.events), -1).any(1).sum())


def _tables(bundle: Bundle, again: Path) -> Iterator[Agreement]:
    """Compare each table, the verdict and the costs."""
    known = [name for name in bundle.members if name.startswith((f"{form.TABLES}/", "cost.", f"{form.ROBUSTNESS}/"))]
    made = [str(file.relative_to(again)) for file in sorted(again.rglob("*")) if file.is_file()]
    for name in dict.fromkeys([*made, *known]):
        if name not in known or name not in made:
            count = AgreementCount()
            count.one(name, *(("nothing", "a file") if name in made else ("a file", "nothing")))
            yield count.result(name, "files")
            continue
        stored, other = bundle.members[name].decode(), (again / name).read_text("utf-8")
        yield _compared(name, stored, other)


def _compared(name: str, stored: str, again: str) -> Agreement:
    if name.endswith(".json"):
        return compared_json(name, parsed_json(stored.encode(), name), parsed_json(again.encode(), name))
    if name == f"{form.TABLES}/{VERDICT_FILE}":
        return compared_sentences(name, stored, again.splitlines())
    return compared_lines(name, stored, again)


def _made(one: OpenedBundle) -> dict[str, Any]:
    """Return who made the bundle, and on what, as its files tell."""
    provenances = [read_provenance(one.run(cell).provenance_file) for cell in one.cells]
    note = one.bundle.note
    versions = Counter(str(of.get("packages", {}).get("polarcast", "unknown")) for of in provenances if of)
    return {
        "suite": note.suite, "bundled_by": note.polarcast, "verified_by": version_of_polarcast(), "data": note.data,
        "runs": len(one.folders), "origin": origin_of(of for of in provenances if of), "trained_by": sorted(versions),
        "left_out": list(note.left_out), "about_data": note.about_data,
    }  # fmt: skip


def _missing(one: OpenedBundle) -> list[str]:
    """Return the runs of the suite that have no scores, with the reason where it is known."""
    return [f"{cell.model}-{cell.arm}-s{cell.seed}{_reason(one, cell)}" for cell in one.lacking]


def _reason(one: OpenedBundle, cell: Cell) -> str:
    content = one.bundle.members.get(f"{form.CELLS}/{one.run(cell).path.name}/{form.FAILED}")
    found = parsed_json(content, form.FAILED) if content else {}
    return f": {found['reason']}" if isinstance(found, dict) and isinstance(found.get("reason"), str) else ""

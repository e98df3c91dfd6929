"""Confirm finished rows of a suite on storms that nobody has looked at, and count how often they are looked at."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polarcast.data.check.shared_events import shared_event
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, read_json, sole_writer, write_json
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.contrasts import all_runs
from polarcast.hpc.bench.data import SynthSpec
from polarcast.hpc.bench.notes import rain_note
from polarcast.hpc.bench.rescore import saved_suite, score_cells
from polarcast.hpc.bench.run import Tables, is_synthetic, paths_of, write_tables
from polarcast.hpc.bench.suite import Suite, without_synthetic_rows
from polarcast.hpc.bench.unfinished import finished_part
from polarcast.hpc.evaluation.shards import shards_of
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import describe
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.hpc.utils.text import printable

LOOKS = "looks.json"
_FOLDER = "confirm"


@dataclass(frozen=True)
class _Source:
    """Data of a confirmation: a fresh synthetic archive, or a held-back one."""

    name: str
    synth: SynthSpec | None
    archive: Path | None

    @property
    def shown(self) -> str:
        if self.synth:
            return f"{self.synth.events} fresh storms (preset {self.synth.preset}, seed {self.synth.seed})"
        return f"the held-back archive {self.name}"


def confirm(
    path: Path, models: Sequence[str] | None, archive: Path | None, workers: int, board: ProgressBoard
) -> tuple[Tables, Path]:
    """Score chosen rows of a finished suite once on new data, without training.

    Each set of rows and of scores is a look, which is recorded before its scores are known. To run the same look again
    resumes it, or shows it, and is no further look.

    Args:
        path: Folder of the suite.
        models: Models to score; by default all that its tables show.
        archive: Held-back archive or shards; by default, a synthetic archive of another seed is made.
        workers: Processes that make the archive.
        board: Progress board.

    Returns:
        The tables, whose note has the number of the look, and the folder they were written to.

    Raises:
        BadInput: the suite is not finished, a model is unknown, the archive shares an event with the suite's data or
            was looked at under another name, or the record of looks is lost.
    """
    suite = saved_suite(path)
    folder = SuiteFolder(path, suite.data)
    trained_on = read_manifest(folder.shards)
    source = _source(suite, archive, len(trained_on.splits.get("test", ())))
    out = path / _FOLDER / source.name
    part = _part(suite, models)
    with sole_writer(checked_output(out, is_folder=True)):
        manifest = _data(source, out, workers, board)
        if not is_synthetic(manifest):
            part = without_synthetic_rows(part)
        _check_new(trained_on, manifest, out)
        cells = [c for c in cells_of(suite, folder.shards) if c.model in part.models]
        weights = {run.path.name: _weights(run) for run in (folder.cell(c, trained_on) for c in cells)}
        look = _begin_look(out, source, manifest, part, weights)
        outputs = score_cells(cells, folder, trained_on, manifest, out, board, resume=True)
        shown, scored, missing = finished_part(part, outputs, out)
        note = "; ".join(filter(None, [_note(source, look), rain_note(suite.task, manifest), missing]))
        titled = {n: replace(t, title=f"{t.title}; confirmation") for n, t in shown.tables.items()}
        shown, path_of = replace(shown, tables=titled), paths_of(folder, trained_on)
        tables = write_tables(shown, out, scored, path_of, note, manifest)
        _end_look(out, look)
    return tables, out


def _source(suite: Suite, archive: Path | None, events: int) -> _Source:
    if archive is not None:
        return _Source(printable(archive.resolve().name), None, archive)
    if not suite.data.is_synthetic:
        raise BadInput("the suite has an archive of its own", "--confirm", "give held-back events with --archive")
    seed = fresh_seed(suite.data.synth.seed)
    return _Source(f"seed-{seed}", replace(suite.data.synth, seed=seed, events=events), None)


def fresh_seed(seed: int) -> int:
    """Return the seed of the archive that confirms a suite whose archive has a given seed."""
    return int.from_bytes(hashlib.sha256(f"polarcast confirm {seed}".encode()).digest()[:4], "big")


def _part(suite: Suite, models: Sequence[str] | None) -> Suite:
    """Return the suite with tables of these models only, and with the models that those are compared with.

    Raises:
        BadInput: a model is unknown, or no table shows it.
    """
    known = list(dict.fromkeys(m for table in suite.tables.values() for m in suite.shown(table)))
    if unknown := [m for m in models or () if m not in known]:
        raise BadInput(f"no table shows {unknown[0]!r}", "--models", f"choose from: {', '.join(known)}")
    chosen = set(models or known)
    shown = {name: [m for m in suite.shown(table) if m in chosen] for name, table in suite.tables.items()}
    tables = {name: replace(suite.tables[name], models=names) for name, names in shown.items() if names}
    needed = {model for table in tables.values() for model, _ in all_runs(suite, table)} | chosen
    return replace(suite, models={n: spec for n, spec in suite.models.items() if n in needed}, tables=tables)


def _data(source: _Source, out: Path, workers: int, board: ProgressBoard) -> Manifest:
    """Return the shards to score on; a synthetic archive is made first."""
    if source.archive is not None:
        return shards_of(source.archive, out, board)
    assert source.synth is not None
    synth = source.synth
    with board.stage("synthesize", "storms", synth.events) as done:
        write_archive(
            out / "archive", synth.events, size=synth.size, seed=synth.seed, preset=synth.preset, frames=synth.frames,
            workers=workers, on_event=done,
        )  # fmt: skip
    return shards_of(out / "archive", out, board)


def _check_new(trained_on: Manifest, manifest: Manifest, out: Path) -> None:
    """Raise BadInput if the archive shares an event with the suite's data, or has another name or archive's folder."""
    same = (f.parent.name for f in out.parent.glob(f"*/{LOOKS}") if f.parent != out and _digest(f) == manifest.digest())
    if name := next(same, ""):
        raise BadInput(f"was looked at as {name!r} already", out, f"name it {name}")
    known = _looks(out).get("data", {}).get("digest", manifest.digest())
    if known != manifest.digest():
        raise BadInput("holds looks at another archive of this name", out, "rename the archive")
    if shared := shared_event(manifest, trained_on):
        raise BadInput(f"shares an event with the data of the suite: {shared}", "--archive", "give held-back events")


def _looks(out: Path) -> dict[str, Any]:
    """Read the looks at an archive. Raises BadInput if they are damaged: they can't be counted any more."""
    file = out / LOOKS
    content = read_json(file)
    if not file.exists() and any((out / "scores").glob("*.parquet")):
        raise BadInput("is missing: looks at this archive can't be counted", file, "restore it, or use a new archive")
    if file.exists() and not (isinstance(content.get("looks"), list) and isinstance(content.get("data"), dict)):
        raise BadInput("is damaged: looks at this archive can't be counted", file, "restore it, or use a new archive")
    return content


def _digest(looks: Path) -> str:
    """Return the digest of the archive that looks are of; empty if they are damaged."""
    data = read_json(looks).get("data")
    return str(data.get("digest", "")) if isinstance(data, dict) else ""


def _begin_look(out: Path, source: _Source, manifest: Manifest, part: Suite, weights: dict[str, str]) -> dict[str, Any]:
    """Return the look at these runs and scores: the one that was begun before, or a new one.

    Raises:
        BadInput: a run was trained again after it was looked at.
    """
    known = _looks(out) or {"data": {"digest": manifest.digest(), "name": source.name}, "looks": []}
    if source.synth:
        known["data"]["synth"] = asdict(source.synth)
    tables = _chosen(part)
    seen = {name: digest for look in known["looks"] for name, digest in look.get("weights", {}).items() if digest}
    if again := [name for name, digest in weights.items() if seen.get(name, digest) != digest]:
        raise BadInput("was trained again after a look at this archive", again[0], "confirm it on another --archive")
    for look in known["looks"]:
        if look["runs"] == list(weights) and look.get("tables") == tables:
            return dict(look)
    made = describe(manifest)
    look = {
        "number": 1 + len(known["looks"]), "begun": _now(), "finished": None, "models": list(part.models),
        "runs": list(weights), "weights": weights, "tables": tables,
        "code": made["code"], "machine": made["machine"],
    }  # fmt: skip
    write_json(out / LOOKS, {**known, "looks": [*known["looks"], look]})
    return look


def _weights(run: RunFolder) -> str:
    """Return the digest of a run's weights; empty if there are none."""
    return hashlib.sha256(run.weights_file.read_bytes()).hexdigest() if run.weights_file.exists() else ""


def _chosen(part: Suite) -> dict[str, Any]:
    """Return what can be chosen of each table after looking at it: rows, scores and comparisons."""
    keys = ("models", "arms", "metrics", "aggregation", "versus")
    return {name: {key: asdict(table)[key] for key in keys} for name, table in part.tables.items()}


def _end_look(out: Path, look: dict[str, Any]) -> None:
    known = _looks(out)
    for one in known["looks"]:
        if one["number"] == look["number"] and not one["finished"]:
            one["finished"] = _now()
            write_json(out / LOOKS, known)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _note(source: _Source, look: dict[str, Any]) -> str:
    number = look["number"]
    which = "first look" if number == 1 else f"look {number} of this archive"
    return f"scored once on {source.shown}, after training: {which}, begun {look['begun']}"

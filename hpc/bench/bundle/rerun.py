"""Train cells of a bundle anew, drawn at random, and compare their scores with the recorded ones."""

import random
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polarcast.data.cores import usable_cores
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, sole_writer
from polarcast.data.folder_kind import is_new
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.hpc.bench.bundle.luck import Retraining, judged
from polarcast.hpc.bench.bundle.verify import OpenedBundle, sizes_of_data
from polarcast.hpc.bench.cells import Cell, CellKey, SuiteFolder, cells_of
from polarcast.hpc.bench.checks import check_data
from polarcast.hpc.bench.data import prepare_data
from polarcast.hpc.bench.origin import origin_of
from polarcast.hpc.bench.run import default_workers, run_cells
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.utils.progress import ProgressBoard

MOST_SEED = 2**32
_PLACES = {"data": ("shards", "stage_to"), "train": ("track", "profile")}
"""Settings that name places or services, or write traces; none of them affects a result."""


@dataclass(frozen=True)
class Reruns:
    """Cells that were trained anew.

    Attributes:
        seed: Seed of the draw, by which it can be repeated.
        drawn_from: Number of cells that could have been drawn.
        results: One result for each cell drawn.
        recorded_on, here: Revision and machine of the recorded runs, and of the new ones.
    """

    seed: int
    drawn_from: int
    results: tuple[Retraining, ...]
    recorded_on: str = ""
    here: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether every new run scores as the recorded one, within the luck of training."""
        return all(one.is_ok for one in self.results)

    def as_record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        found = [one.as_record() for one in self.results]
        origin = {"recorded_on": self.recorded_on, "here": self.here}
        return {"seed": self.seed, "drawn_from": self.drawn_from, "ok": self.is_ok, "results": found, **origin}


def rerun(
    one: OpenedBundle, count: int, archive: Path | None, seed: int | None, out: Path, board: ProgressBoard
) -> Reruns:
    """Make the data of a bundle again, train cells drawn at random in a new folder, and compare their scores.

    Nothing of the bundle names a place: data, shards and runs are in `out`. Runs and their bases are trained from their
    configurations, with the seeds of these.

    Args:
        one: The bundle, whose configurations were verified.
        count: Number of cells.
        archive: Archive or shards of the suite; not needed if its storms are synthetic.
        seed: Seed of the draw; by default a random one.
        out: New folder.
        board: Progress board.

    Raises:
        BadInput: no cell can be trained, the data are not those of the bundle, or the folder is not new.
        WorkFailed: a training failed.
    """
    if not is_new(checked_output(out, is_folder=True)):
        raise BadInput("exists and is not empty", out, "choose another folder")
    suite = without_places(one.suite)
    candidates = [cell for cell in one.scored if cell.is_random and _is_whole(cell)]
    if not candidates:
        raise BadInput("holds no trained run that could be trained anew", one.where, "leave out --rerun")
    seed = secrets.randbelow(MOST_SEED) if seed is None else seed
    drawn = {cell.key for cell in drawn_cells(candidates, count, seed)}
    with sole_writer(out):
        folder, manifest, shards = _data(one, suite, archive, out, board)
        cells = {cell.key: cell for cell in cells_of(suite, shards)}
        needed = list(_closure(cells[key] for key in cells if key in drawn))
        run_cells(needed, folder, manifest, default_workers(needed), board)
        chosen = [cell for key, cell in cells.items() if key in drawn]
        results = tuple(_result(one, cell, folder, manifest) for cell in chosen)
        recorded_on = _origin(one.run(cell) for cell in candidates if cell.key in drawn)
        here = _origin(folder.cell(cell, manifest) for cell in chosen)
    return Reruns(seed, len(candidates), results, recorded_on, here)


def drawn_cells(cells: Sequence[Cell], count: int, seed: int) -> list[Cell]:
    """Draw some cells, each at most once; the same for the same seed."""
    ordered = sorted(cells, key=lambda cell: cell.key)
    return random.Random(seed).sample(ordered, min(count, len(ordered)))


def without_places(suite: Suite) -> Suite:
    """Return a suite of others whose runs write nothing outside of their folders, and send nothing anywhere."""
    models = {
        name: replace(spec, set={key: _without(value, _PLACES.get(key, ())) for key, value in spec.set.items()})
        for name, spec in suite.models.items()
    }
    return replace(suite, models=models)


def _without(settings: Any, keys: Iterable[str]) -> Any:
    if not keys or not isinstance(settings, Mapping):
        return settings
    return {key: value for key, value in settings.items() if key not in keys}


def _is_whole(cell: Cell) -> bool:
    """Return whether a cell can be trained from the suite alone, without weights of runs outside of it."""

    def starts_outside(config: RunConfig, start: Cell | None) -> bool:
        return config.start is not None and start is None

    return not starts_outside(cell.config, cell.start) and all(map(_is_whole, cell.needs))


def _data(
    one: OpenedBundle, suite: Suite, archive: Path | None, out: Path, board: ProgressBoard
) -> tuple[SuiteFolder, Manifest, Path]:
    """Return the folder to train in, and the manifest and folder of the shards. Raises BadInput for other data."""
    spec = suite.data
    if archive:
        spec = replace(spec, archive=str(archive.resolve()), fetch=None, ingest=None)
    elif not spec.is_synthetic:
        raise BadInput("its data were not made by polarcast", "--rerun", "give the archive or its shards: --archive")
    folder = SuiteFolder(out, spec)
    if archive and (archive / NAME).is_file():
        manifest, shards = read_manifest(archive), archive.resolve()
    else:
        if spec.is_synthetic:
            _check_size(one)
        check_data(spec, folder.shards)
        manifest, shards = prepare_data(spec, folder.archive, folder.shards, usable_cores(), board), folder.shards
    if manifest.digest() != one.manifest.digest():
        what = f"has the digest {manifest.digest()[:12]}, the data of the bundle {one.manifest.digest()[:12]}"
        fix = "give the archive or the shards that the suite was run on" if archive else "use the version that made it"
        raise BadInput(what, archive or "the data, made anew,", fix)
    return folder, manifest, shards


def _check_size(one: OpenedBundle) -> None:
    """Raise BadInput if the suite asks for other events than its manifest lists, before they are made."""
    asked, listed = sizes_of_data(one)
    if asked != listed:
        what = f"its suite asks for {asked}; its manifest lists {listed}"
        raise BadInput(what, one.where, "ask whoever made it for another copy")


def _closure(cells: Iterable[Cell]) -> Iterable[Cell]:
    """Return cells after those that they need, each once."""
    found: dict[CellKey, Cell] = {}

    def add(cell: Cell) -> None:
        for other in cell.needs:
            add(other)
        found.setdefault(cell.key, cell)

    for cell in cells:
        add(cell)
    return found.values()


def _result(one: OpenedBundle, cell: Cell, folder: SuiteFolder, manifest: Manifest) -> Retraining:
    same = [other for other in one.scored if (other.model, other.arm) == (cell.model, cell.arm)]
    recorded = next(other for other in same if other.seed == cell.seed)
    again = read_records(folder.cell(cell, manifest).output.scores)
    seeds = [one.records(other) for other in same]
    return judged(one.run(recorded).path.name, one.suite, cell.model, one.records(recorded), seeds, again)


def _origin(runs: Iterable[RunFolder]) -> str:
    return origin_of(read_provenance(run.provenance_file) for run in runs)

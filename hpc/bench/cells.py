"""Cells of a suite, one run each."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf

from polarcast.data.errors import BadInput
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.checks import KnownData, check_base, check_run, check_scores
from polarcast.hpc.bench.data import DataSpec
from polarcast.hpc.bench.suite import ModelSpec, Suite
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import BaseRun, RunConfig, StartRun
from polarcast.hpc.runs.folder import RunFolder
from polarcast.models.registry import get_model

MOST_TOGETHER = 16
"""Most nets trained together in a process; more fill even a large GPU."""
CellKey = tuple[str, str, int]
"""Model, arm and seed of a cell."""


@dataclass(frozen=True)
class Cell:
    """One run of a suite: a model, an arm, a seed, and the cells it builds on."""

    model: str
    arm: str
    seed: int
    config: RunConfig
    bases: "tuple[Cell, ...]" = ()
    start: "Cell | None" = None
    """Cell whose weights training starts from."""

    @property
    def key(self) -> CellKey:
        """Model, arm and seed, by which a suite tells its cells apart."""
        return self.model, self.arm, self.seed

    @property
    def needs(self) -> "tuple[Cell, ...]":
        """Cells that must be trained before this one."""
        return (*self.bases, *((self.start,) if self.start else ()))

    @property
    def is_random(self) -> bool:
        """Whether the run depends on its seed."""
        return bool(self.bases) or get_model(self.config.model["name"]).trained

    def folder(self, runs: Path, data_digest: str) -> Path:
        """Return the run folder, keyed by the hashes of the configuration and of the data."""
        key = f"{digest(self.config)[:8]}-{data_digest[:8]}"
        return runs / f"{self.model}-{self.arm}-s{self.seed}-{key}"


def cells_of(suite: Suite, shards: Path) -> list[Cell]:
    """Return all runs of a suite, each once; a cell follows those it needs.

    Raises:
        BadInput: a model's settings are invalid, models build on each other in a cycle, or a table shows a score that
            records of its models will not contain.
    """
    cells: dict[CellKey, Cell] = {}
    for name in suite.models:
        for arm in suite.arms_of(name):
            for seed in suite.seeds_of(name):
                if not _add_cell(cells, suite, shards, (name, arm, seed), ()).is_random:
                    break
    check_scores(suite, {cell.model: cell.config for cell in cells.values()})
    return list(cells.values())


def check_cells(suite: Suite, cells: Sequence[Cell], data: KnownData) -> None:
    """Check that all cells can be trained and scored on data that may not exist yet.

    Raises:
        BadInput: see `check_run`, `check_base` and `check_scores`.
    """
    for cell in {(cell.model, cell.arm): cell for cell in cells}.values():
        where = f"models, {suite.models[cell.model].label}"
        check_run(cell.config, data, where)
        check_base(cell.config, where)
    check_scores(suite, {cell.model: cell.config for cell in cells}, data.shape)


def _add_cell(
    cells: dict[CellKey, Cell],
    suite: Suite,
    shards: Path,
    key: CellKey,
    above: tuple[str, ...],
) -> Cell:
    name, arm, seed = key
    if name in above:
        fix = "remove one `base` or `start_from` from the cycle"
        raise BadInput(f"{' builds on '.join((*above, name))}", "models", fix)
    if key not in cells:
        spec = suite.models[name]
        needs = tuple(_add_cell(cells, suite, shards, (one, arm, seed), (*above, name)) for one in spec.needs)
        bases, start = needs[: len(spec.bases)], needs[-1] if spec.start_from else None
        # The folder of a base depends on the data, which may not exist yet.
        runs = [BaseRun("", base.config) for base in bases]
        like = next((cell.config for (n, a, _), cell in cells.items() if (n, a) == (name, arm)), None)
        config = like or _config(suite, spec, arm, shards, runs, start)
        config = replace(config, seed=seed).with_bases(runs)
        config = config.with_start(StartRun("", start.config)) if start else config
        cells[key] = Cell(name, arm, seed, config, bases, start)
    return cells[key]


def _config(
    suite: Suite, spec: ModelSpec, arm: str, shards: Path, bases: Sequence[BaseRun], start: Cell | None
) -> RunConfig:
    plain = [asdict(base) for base in bases]
    base = plain if len(plain) > 1 else next(iter(plain), None)
    overrides = {"task": suite.task, "arm": arm, "data": {"shards": str(shards)}, "base": base}
    overrides |= {"train": {"start_from": asdict(StartRun("", start.config))}} if start else {}
    try:
        return load_config(spec.preset, OmegaConf.to_container(OmegaConf.merge(spec.set, overrides)))  # type: ignore[arg-type]
    except BadInput as error:
        raise error.at(f"models, {spec.label}: {error.where}") from None


class SuiteFolder:
    """Folder layout of a suite: volumes, data, runs, tables and figures."""

    def __init__(self, path: Path, data: DataSpec) -> None:
        key = hashlib.sha256(json.dumps(data.as_record(), sort_keys=True).encode()).hexdigest()[:8]
        self.path = Path(path)
        data_folder = self.path / f"data-{key}"
        self.raw = self.path / "raw"
        self.archive = data_folder / "archive"
        # Absolute, because every run stores it and may be scored from any working directory.
        self.shards = data_folder.resolve() / "shards"
        self.cells = self.path / "cells"
        self.suite_file = self.path / SUITE_FILE

    def cell(self, cell: Cell, manifest: Manifest) -> RunFolder:
        """Return the run folder of one cell."""
        return RunFolder(cell.folder(self.cells, manifest.digest()))

"""Plan of a suite's jobs: data, arrays of cells by level, tables. Pure functions, and the files that hold them.

A plan is written before anything is submitted, and its jobs have names that follow from it. So whoever runs the same
command later finds the jobs, even if the first command was killed between a submission and the record of it.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json, write_json
from polarcast.hpc.bench.cells import MOST_TOGETHER, Cell, CellKey

CLUSTER = "cluster"
PLAN, JOBS = "plan.json", "jobs.json"
DATA, TABLES = "data", "tables"
LONGEST_ARRAY = 1000
"""Elements of a job array that every Slurm accepts by default."""


@dataclass(frozen=True)
class CellArray:
    """A job array of cells that do not build on each other.

    Attributes:
        name: Name within the plan.
        level: Number of arrays that must have ended before, counted along the cells that these build on.
        nodes: Nodes of each element; 0: one process, on a part of a node.
        elements: Cells of each element.
    """

    name: str
    level: int
    nodes: int
    elements: tuple[tuple[CellKey, ...], ...]


@dataclass(frozen=True)
class JobPlan:
    """Jobs of a suite.

    Attributes:
        key: Name of the plan, unique in the folder of the suite.
        makes_data: Whether a job makes the shards first.
        arrays: Arrays of cells, in the order of their levels.
        profile: Settings of the cluster, as plain values.
        at_most: Elements of an array that run at once; 0: as many as the cluster allows.
        together: Whether elements hold several cells.
        round: 1, and one more each time that killed cells are submitted again.
    """

    key: str
    makes_data: bool
    arrays: tuple[CellArray, ...]
    profile: Mapping[str, Any]
    at_most: int = 0
    together: bool = False
    round: int = 1

    @property
    def cells(self) -> list[CellKey]:
        """All cells of the plan."""
        return [key for array in self.arrays for element in array.elements for key in element]

    @property
    def names(self) -> list[str]:
        """Names of its jobs, in the order of their submission."""
        return [*([DATA] if self.makes_data else []), *(array.name for array in self.arrays), TABLES]

    def array(self, name: str) -> CellArray:
        """Return one of its arrays. Raises BadInput if there is none of this name."""
        found = next((array for array in self.arrays if array.name == name), None)
        if found is None:
            raise BadInput(f"no array {name!r}", self.key, f"choose from: {', '.join(a.name for a in self.arrays)}")
        return found


def plan_of(
    pending: Sequence[Cell],
    makes_data: bool,
    profile: Mapping[str, Any],
    at_most: int = 0,
    together: bool = False,
    stack_key: Callable[[Cell], str] = repr,
    number: int = 1,
) -> JobPlan:
    """Plan the jobs of the cells that are not complete.

    Args:
        pending: Cells to run, each after those it builds on.
        makes_data: Whether the shards are not there yet.
        profile: Settings of the cluster.
        at_most: Elements of an array that run at once; 0: as many as the cluster allows.
        together: Whether cells with the same `stack_key` share an element.
        stack_key: Function that returns equal texts for cells that can be trained in one process.
        number: Round of the plan.
    """
    groups: dict[tuple[int, int], list[list[Cell]]] = {}
    for group in _grouped(pending, stack_key if together else lambda cell: repr(cell.key)):
        groups.setdefault((_level(group[0], pending), group[0].config.train.nodes), []).append(group)
    arrays: list[CellArray] = []
    for (level, nodes), found in sorted(groups.items()):
        elements = [tuple(cell.key for cell in group) for group in found]
        for first in range(0, len(elements), LONGEST_ARRAY):
            part = tuple(elements[first : first + LONGEST_ARRAY])
            arrays.append(CellArray(f"cells-{len(arrays)}", level, nodes, part))
    return JobPlan(_new_key(), makes_data, tuple(arrays), profile, at_most, together, number)


def _new_key() -> str:
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)


def _grouped(cells: Sequence[Cell], key: Callable[[Cell], str]) -> list[list[Cell]]:
    """Group cells with the same key, at most `MOST_TOGETHER` in a group; cells of several nodes stay alone."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        alone = repr(cell.key) if cell.config.train.nodes else ""
        found.setdefault(f"{key(cell)} {alone}", []).append(cell)
    return [group[i : i + MOST_TOGETHER] for group in found.values() for i in range(0, len(group), MOST_TOGETHER)]


def _level(cell: Cell, pending: Sequence[Cell]) -> int:
    """Return the length of the longest chain of pending cells that a cell builds on."""
    return max((1 + _level(one, pending) for one in cell.needs if one in pending), default=0)


def waits_for(plan: JobPlan, array: CellArray) -> list[str]:
    """Return the names of the arrays that must have ended before an array begins."""
    return [other.name for other in plan.arrays if other.level == array.level - 1]


class PlanFolder:
    """Files of a plan in the folder of a suite: the plan, the ids of its jobs, and their logs."""

    def __init__(self, suite: Path, key: str) -> None:
        self.path = Path(suite) / CLUSTER / key

    def write(self, plan: JobPlan) -> None:
        """Write a plan."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / PLAN, asdict(plan))

    def read(self) -> JobPlan:
        """Read a plan. Raises BadInput if it is missing or damaged."""
        content = read_json(self.path / PLAN)
        try:
            arrays = tuple(_array_of(array) for array in content.pop("arrays"))
            return JobPlan(arrays=arrays, **content)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise BadInput("is missing or damaged", self.path / PLAN, "run the same command again") from None

    def jobs(self) -> dict[str, str]:
        """Return the ids of the jobs that are known to be submitted, by name."""
        return {str(name): str(job) for name, job in read_json(self.path / JOBS).items()}

    def record(self, jobs: Mapping[str, str]) -> None:
        """Record the ids of submitted jobs."""
        write_json(self.path / JOBS, dict(jobs))


def _array_of(content: Mapping[str, Any]) -> CellArray:
    elements = tuple(
        tuple((str(model), str(arm), int(seed)) for model, arm, seed in element) for element in content["elements"]
    )
    return CellArray(str(content["name"]), int(content["level"]), int(content["nodes"]), elements)


def plans_in(suite: Path) -> list[JobPlan]:
    """Return the plans of a suite, the oldest first; damaged ones are left out."""
    found = []
    for path in sorted((Path(suite) / CLUSTER).glob(f"*/{PLAN}")):
        try:
            found.append(PlanFolder(suite, path.parent.name).read())
        except BadInput:
            continue
    return found

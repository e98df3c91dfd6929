"""What the report tells of a suite beside its tables: data, cases, hours, plans, commands."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.contrasts import ARM_NAMES, Run
from polarcast.hpc.bench.figures.source import FigureData
from polarcast.hpc.bench.layout import TableLayout
from polarcast.hpc.bench.report.gallery import gallery_of
from polarcast.hpc.bench.report.parts import Picture, ReportContext, Section, Spent
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.runs.spent import kilowatt_hours, process_hours
from polarcast.hpc.scores.wording import number, percent
from polarcast.hpc.utils.text import printable

POWER_FILE = "power.json"
_PLAN_CAPTION = (
    "Power by the number of groups of events, a line for each number of seeds, a panel for each score and gain"
)
_PLAN_NOTE = "none: with so few seeds, no number of events shows the gain. Low and high: range of the number of groups."
_TASKS = {"qpe": "rain rate from radar (QPE)", "nowcast": "nowcasts of reflectivity"}
_SPLITS = {"train": "training events", "validation": "validation events", "test": "test events"}
_DIGEST_SHOWN = 16
_UNREADABLE = (OSError, BadInput, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)


def context_of(
    suite: Suite, folder: Path, manifest: Manifest, source: FigureData, paths: Mapping[Run, Sequence[Path]]
) -> ReportContext:
    """Collect what a report tells beside its tables.

    Args:
        suite: The suite.
        folder: Its folder.
        manifest: Data that it was scored on.
        source: Records and kept cases.
        paths: Run folders of all seeds by model and arm.
    """
    spent = [spent_by(run, of_run) for run, of_run in paths.items()]
    first = next(iter(paths.values()))[0]
    return ReportContext(
        setting_of(suite, manifest), gallery_of(source, manifest), spent, plans_in(folder), commands_of(folder, first)
    )


def setting_of(suite: Suite, manifest: Manifest) -> list[tuple[str, str]]:
    """Return what was run on which data, as names and values."""
    labels = ", ".join(spec.label for spec in suite.models.values())
    rows, columns = manifest.shape
    seeds = sorted({seed for model in suite.models for seed in suite.seeds_of(model)})
    return [
        ("task", _TASKS.get(suite.task, suite.task)),
        ("data", _archive(manifest)),
        *_events(manifest),
        ("split", printable(str(manifest.provenance.get("split", suite.data.split)))),
        ("grid", f"{rows} × {columns} pixels of {manifest.spacing_km:g} km"),
        ("heights", f"{', '.join(f'{height:g}' for height in manifest.heights_km)} km"),
        ("time step", f"{manifest.time_step_minutes:g} min"),
        ("variables", ", ".join(manifest.variables)),
        ("models", f"{len(suite.models)}: {labels}"),
        ("arms", ", ".join(ARM_NAMES[arm] for arm in suite.arms)),
        ("seeds of trained models", ", ".join(map(str, seeds))),
        ("digest of the data", manifest.digest()[:_DIGEST_SHOWN]),
    ]


def _archive(manifest: Manifest) -> str:
    known = manifest.provenance
    if "preset" in known:
        seed = f", seed {known['seed']}" if "seed" in known else ""
        return printable(f"synthetic storms, preset {known['preset']}{seed}")
    sources = dict.fromkeys(origin.source for origin in manifest.origins.values())
    name = ", ".join(sources) or Path(str(known.get("root", ""))).name or "not recorded"
    generator = known.get("generator")
    return printable(f"archive {name}" + (f", made by {generator}" if generator else ""))


def _events(manifest: Manifest) -> list[tuple[str, str]]:
    found = []
    for split, name in _SPLITS.items():
        events = manifest.splits.get(split, ())
        groups = manifest.count_groups(events)
        text = f"{len(events)}" + (f" in {groups} groups" if groups < len(events) else "")
        if events:
            found.append((name, text))
    return found


def spent_by(run: Run, folders: Sequence[Path]) -> Spent:
    """Return hours and energy of the runs of one model and arm; None where a log is missing or damaged."""
    logs = [list(RunFolder(folder).records()) for folder in folders]
    hours = [found for log in logs if (found := _known(process_hours, log)) is not None]
    energy = [found for log in logs if (found := _known(kilowatt_hours, log)) is not None]
    gpus = [read_provenance(RunFolder(folder).provenance_file).get("gpu") for folder in folders]
    return Spent(
        *run, len(folders),
        sum(hours) if hours and len(hours) == len(logs) else None, all(map(bool, gpus)),
        sum(energy) if energy and len(energy) == len(logs) else None,
    )  # fmt: skip


def _known(measure: Any, log: Sequence[Mapping[str, Any]]) -> float | None:
    with suppress(*_UNREADABLE):
        return measure(log)  # type: ignore[no-any-return]
    return None


def plans_in(folder: Path) -> list[Section]:
    """Return the plans that `polarcast power --out` wrote into a suite or a folder in it; damaged ones are left out."""
    found: list[Section] = []
    for file in sorted({folder / POWER_FILE, *folder.glob(f"*/{POWER_FILE}")}):
        with suppress(*_UNREADABLE):
            content = read_json(file)
            if content:
                title = f"Events that show a gain with {percent(content['power'])} power"
                pictures = [Picture(path, _PLAN_CAPTION) for path in sorted(file.parent.glob("power-*.png"))]
                layout = TableLayout(*_plan(content["rows"]), 3)
                found.append(Section(f"power-{len(found)}", title, layout, [_PLAN_NOTE], pictures))
    return found


def _plan(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    lines = []
    for row in rows:
        for gain in row["gains"]:
            for need in gain["needs"]:
                names = [str(row[key]) for key in ("compared", "score")]
                seeds = "–" if need["seeds"] is None else str(need["seeds"])
                lines.append(
                    [*names, str(gain["gain"]), seeds, *(_count(need[k]) for k in ("events", "groups", "low", "high"))]
                )
    head = ["comparison", "score", "gain", "seeds", "events", "groups", "groups, low", "groups, high"]
    return head, lines


def _count(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}" if value >= 100 else number(value)


def commands_of(folder: Path, first: Path) -> list[str]:
    """Return the commands that make a suite and its page again; none for a folder that is no suite.

    Args:
        folder: Folder of the suite.
        first: Folder of one of its runs, whose provenance has the command that made it.
    """
    if not (folder / SUITE_FILE).is_file():
        return []
    out, file = (shlex.quote(printable(path)) for path in (folder, folder / SUITE_FILE))
    known = read_provenance(RunFolder(first).provenance_file).get("command")
    given = known if isinstance(known, list) and known[:1] == ["bench"] else []
    lines = ["# as it was run", shlex.join(["polarcast", *map(printable, given)])] if given else []
    return [
        *lines,
        "# from the settings that it was run with: trains what is missing",
        f"polarcast bench {file} --out {out}",
        "# this page from the finished runs",
        f"polarcast bench {file} --out {out} --tables-only",
    ]

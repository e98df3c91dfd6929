"""Runs to compare: of a suite, finished or not, or single ones."""

from collections.abc import Sequence
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.folder_kind import RUN_FILE
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.contrasts import ARM_NAMES, Run
from polarcast.hpc.bench.numbers import Scores
from polarcast.hpc.bench.power.answers import PowerOfScore, PowerSettings, Sides, answers, usual_scores
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.bench.table import is_random
from polarcast.hpc.bench.unfinished import SCORES, is_scored
from polarcast.hpc.config.digest import digest
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.records import Records, read_records
from polarcast.models.registry import get_model


def power_of(
    suite: Suite,
    scores: Scores,
    wanted: Sequence[str] = (),
    settings: PowerSettings | None = None,
    first: str = "radar",
    second: str = "dualpol",
) -> list[PowerOfScore]:
    """Answer for every model of a suite that has both arms, from the records of its runs.

    Args:
        suite: The suite, or its finished part.
        scores: Records of each seed, by (model, arm).
        wanted: Scores; by default those of `USUAL`.
        settings: What is asked; by default 2, 3, 5 and 8 seeds, and the gains of `EFFECTS`.
        first: Arm of the reference.
        second: Arm that is compared with it.
    """
    asked = settings or PowerSettings()
    sides = [_of_runs(suite, scores, *runs) for runs in _pairs(suite, scores, first, second, ())]
    return [found for each in sides for found in answers(each, wanted or usual_scores(each, asked.effects), asked)]


def sides_of_suite(path: Path, first: str, second: str, models: Sequence[str] = ()) -> list[Sides]:
    """Read the scored runs of a suite, which may be unfinished.

    Args:
        path: Folder of the suite.
        first: Reference, `ARM` or `MODEL:ARM`.
        second: What is compared with it. Without a model in either, each model that has both arms is compared.
        models: Models; by default all.

    Raises:
        BadInput: no such suite, model or arm, or no runs of both sides are scored yet.
    """
    suite = saved_suite(path)
    if unknown := [name for name in models if name not in suite.models]:
        raise BadInput(f"unknown model {unknown[0]!r}", "--models", f"choose from: {', '.join(suite.models)}")
    folder = SuiteFolder(path, suite.data)
    manifest, scores = read_manifest(folder.shards), dict[Run, list[Records]]()
    for cell in cells_of(suite, folder.shards):
        output = folder.cell(cell, manifest).output
        if is_scored(output):
            scores.setdefault((cell.model, cell.arm), []).append(read_records(output.scores))
    pairs = _pairs(suite, scores, first, second, models)
    if not pairs:
        what = f"no model has scored runs of both {first} and {second} yet"
        raise BadInput(what, path, "wait until the suite has some, or choose other sides")
    return [_of_runs(suite, scores, *runs) for runs in pairs]


def sides_of_runs(first: Sequence[Path], second: Sequence[Path]) -> Sides:
    """Read runs: folders, or score records.

    Records alone do not tell whether the model is trained; they are taken to be of trained runs.

    Raises:
        BadInput: a run is on both sides, a path is no run and no records, or runs of one side differ in more than their
            seed.
    """
    if both := {path.resolve() for path in first} & {path.resolve() for path in second}:
        raise BadInput("is on both sides", min(both), "give the runs to compare with --first and --second")
    sides, trained, names = [], [], []
    for option, paths in (("--first", first), ("--second", second)):
        known = [_read(path) for path in paths]
        if len({key for _, key, _ in known}) > 1:
            raise BadInput("the runs differ in more than their seed", option, "give runs of one configuration")
        sides.append(tuple(records for records, _, _ in known))
        trained.append(known[0][2])
        names.append(paths[0].parent.name if paths[0].name == SCORES else paths[0].stem)
    return Sides(f"{names[1]} vs {names[0]}", "", sides[0], sides[1], (trained[0], trained[1]))


def _pairs(suite: Suite, scores: Scores, first: str, second: str, models: Sequence[str]) -> list[tuple[Run, Run]]:
    """Return the runs of both sides, of each model that has them; those that have no scored run are left out.

    Raises:
        BadInput: a model or arm is unknown.
    """
    named = [text.rpartition(":") for text in (first, second)]
    pairs = []
    for model in models or suite.models:
        runs = [_run(suite, given or model, arm) for given, _, arm in named]
        pairs.append((runs[0], runs[1]))
    for option, text, found in zip(("--first", "--second"), (first, second), zip(*pairs, strict=True), strict=True):
        if not any(found):
            known = ", ".join(f"{name}:{arm}" for name in suite.models for arm in suite.model_by_arm(name))
            raise BadInput(f"{text} is not run in this suite", option, f"choose from: {known}")
    complete = [(a, b) for a, b in pairs if a and b and a != b and scores.get(a) and scores.get(b)]
    return list(dict.fromkeys(complete))


def _run(suite: Suite, model: str, arm: str) -> Run | None:
    sources = suite.model_by_arm(model) if model in suite.models else {}
    return (sources[arm], arm) if arm in sources else None


def _of_runs(suite: Suite, scores: Scores, first: Run, second: Run) -> Sides:
    labels = [suite.models[model].label for model, _ in (first, second)]
    names = [ARM_NAMES.get(arm, arm) for _, arm in (first, second)]
    label = f"{labels[1]}, {names[1]} vs {names[0]}"
    if labels[0] != labels[1]:
        label = f"{labels[1]}, {names[1]} vs {labels[0]}, {names[0]}"
    trained = (is_random(suite, first[0]), is_random(suite, second[0]))
    return Sides(label, second[0], tuple(scores[first]), tuple(scores[second]), trained)


def _read(path: Path) -> tuple[Records, str, bool]:
    """Read a run folder or records; return them, a key that is equal for runs of other seeds, and whether trained."""
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and not (path / RUN_FILE).is_file():
        raise BadInput("not a run: it has no config.yaml", path, "give run folders or score records")
    records = read_records(path / SCORES if path.is_dir() else path)
    if not (folder / RUN_FILE).is_file():
        return records, "", True
    config = RunFolder(folder).config()
    trained = bool(config.bases) or get_model(config.model["name"]).trained
    return records, digest(config.without_seed()), trained

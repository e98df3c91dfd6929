"""Log what a suite has found to W&B: report, tables, figures and a bundle, in the group of its runs.

The folder of the suite holds the digests of what was sent, so that a second call sends nothing.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput, WorkFailed
from polarcast.data.files import read_json, read_limited, write_json
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.data.secrets import redacted
from polarcast.data.shards.health import file_sha256
from polarcast.hpc.tracking.sinks import finish, private_settings

JOB_TYPE = "report"
"""Type of the W&B run, by which a report of W&B finds it among the runs of the group."""
_POSITION = ".tracked-wandb.json"
_TEXT = (".json", ".md", ".csv", ".txt", ".html", ".yaml")
_MOST_BYTES = 2**28
_EMBEDDED = re.compile(r"(data:[\w/+.-]+;base64,[A-Za-z0-9+/=]*)")
"""Pictures in a page, which hold no text."""


@dataclass(frozen=True)
class SuiteResult:
    """Files of one kind, an artifact of W&B.

    Attributes:
        kind: report, tables, figures or bundle.
        files: Name in the artifact → file.
    """

    kind: str
    files: Mapping[str, Path]

    def sha256(self) -> str:
        """Return the SHA-256 of names and contents."""
        content = "\n".join(f"{name} {file_sha256(path)}" for name, path in sorted(self.files.items()))
        return hashlib.sha256(content.encode()).hexdigest()


def log_suite(folder: Path, project: str, mode: str = "", bundle: Path | None = None) -> list[str]:
    """Log the report, tables, figures and bundle of a suite that are new; return their kinds.

    Args:
        folder: Folder of a suite.
        project: Name of the W&B project.
        mode: W&B mode, online or offline; WANDB_MODE by default, else offline.
        bundle: A further file, such as an archive of the suite.

    Raises:
        BadInput: the folder is no suite, or has no report and tables yet; or the bundle is missing.
        WorkFailed: W&B is unreachable or rejects the run.
    """
    results = list(results_of(folder, bundle))
    known = read_json(folder / _POSITION).get("sent", {})
    digests = {result.kind: result.sha256() for result in results}
    fresh = [result for result in results if known.get(result.kind) != digests[result.kind]]
    if not fresh:
        return []
    import wandb

    files = folder / "wandb"
    files.mkdir(exist_ok=True)
    os.environ.setdefault("WANDB_DATA_DIR", str(files))
    os.environ.setdefault("WANDB_CACHE_DIR", str(files / "cache"))
    try:
        run = wandb.init(
            project=project, id=identity_of_suite(folder), name=f"{group(folder)} {JOB_TYPE}", group=group(folder),
            job_type=JOB_TYPE, mode=mode or os.environ.get("WANDB_MODE", "offline"), dir=str(folder),  # type: ignore[arg-type]
            resume="allow", settings=private_settings(), reinit="create_new",
        )  # fmt: skip
        for result in fresh:
            _log(run, result, group(folder))
        finish(run)
    except (wandb.Error, OSError) as error:
        raise WorkFailed(f"wandb: {redacted(next(iter(str(error).splitlines()), type(error).__name__))}") from None
    write_json(folder / _POSITION, {"sent": {**known, **digests}})
    return [result.kind for result in fresh]


def results_of(folder: Path, bundle: Path | None = None) -> Iterator[SuiteResult]:
    """Yield what a suite folder has to send. Raises BadInput; see `log_suite`."""
    if not (folder / SUITE_FILE).is_file():
        raise BadInput(f"not a suite: it has no {SUITE_FILE}", folder, "give the folder of a suite, such as runs/demo")
    if bundle and not bundle.is_file():
        raise BadInput("no such file", bundle, "give the file of a bundle")
    found = {
        "report": [folder / "report.html"],
        "tables": sorted((folder / "tables").glob("*")),
        "figures": sorted((folder / "figures").rglob("*")),
        "bundle": [bundle] if bundle else [],
    }
    there = {kind: [path for path in paths if path.is_file()] for kind, paths in found.items()}
    if not there["report"] and not there["tables"]:
        raise BadInput("has no report and no tables yet", folder, "finish it with: polarcast bench SUITE")
    for kind, paths in there.items():
        base = folder / kind if kind in ("tables", "figures") else None
        if paths:
            yield SuiteResult(kind, {str(path.relative_to(base)) if base else path.name: path for path in paths})


def group(folder: Path) -> str:
    """Return the W&B group of a suite: that of its runs."""
    return folder.resolve().name


def identity_of_suite(folder: Path) -> str:
    """Return the W&B id of the run of a suite."""
    return hashlib.sha256(f"suite {folder.resolve()}".encode()).hexdigest()[:16]


def _log(run: Any, result: SuiteResult, name: str) -> None:
    """Log an artifact, and tables also as tables of W&B."""
    import wandb

    artifact = wandb.Artifact(f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{result.kind}", type=result.kind)
    for inside, path in result.files.items():
        if path.suffix not in _TEXT:
            artifact.add_file(str(path), inside)
            continue
        with artifact.new_file(inside, encoding="utf-8") as copy:
            copy.write(_without_secrets(read_limited(path, _MOST_BYTES).decode("utf-8", "replace")))
    run.log_artifact(artifact)
    if result.kind == "tables":
        tables = {path.stem: path for path in result.files.values() if path.suffix == ".csv"}
        run.log({f"tables/{stem}": _table(path) for stem, path in tables.items()})


def _without_secrets(text: str) -> str:
    parts = _EMBEDDED.split(text)
    return "".join(part if number % 2 else redacted(part) for number, part in enumerate(parts))


def _table(path: Path) -> Any:
    """Return the table of a CSV file; a column of numbers holds numbers, None where it is empty."""
    import wandb

    text = redacted(read_limited(path, _MOST_BYTES).decode("utf-8", "replace"))
    names, *rows = csv.reader(io.StringIO(text)) if text.strip() else [[]]
    columns = [_numbers([row[n] if n < len(row) else "" for row in rows]) for n in range(len(names))]
    return wandb.Table(columns=list(names), data=[list(row) for row in zip(*columns, strict=True)])


def _numbers(column: list[str]) -> list[Any]:
    try:
        return [float(value) if value else None for value in column]
    except ValueError:
        return list(column)

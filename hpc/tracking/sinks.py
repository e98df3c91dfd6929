"""W&B and TensorBoard sinks of a run's records."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.secrets import redacted, redacted_tree
from polarcast.hpc.config.digest import digest
from polarcast.hpc.runs.folder import RunFolder, group_of
from polarcast.hpc.runs.provenance import read_provenance

_FILES = {"manifest": "provenance.json", "model": "model.safetensors", "report": "card.md", "scores": "scores.parquet"}
_TEXT = (".json", ".md")
_START_SECONDS = 60
_FLUSH_SECONDS = 5
"""TensorBoard reads what is in the file; the default is two minutes, and W&B's service takes 15 s."""
_open: set[str] = set()
"""Ids of the runs that this process has open."""


class WandB:
    """W&B sink: one W&B run per run folder, with an id from configuration, data and path."""

    def __init__(self, mode: str, project: str) -> None:
        self._mode, self._project = mode or os.environ.get("WANDB_MODE", "offline"), project
        self._run: Any = None

    def begin(self, run: RunFolder) -> None:
        """Start a W&B run, or resume the one with the same id. Raises W&B's errors without a key or network."""
        import wandb

        config, made = run.config(), read_provenance(run.provenance_file)
        folder = run.path / "wandb"
        folder.mkdir(exist_ok=True)
        # Artifacts are staged in the run folder, not in the user's home.
        os.environ.setdefault("WANDB_DATA_DIR", str(folder))
        os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))
        # Other runs of this process go on: nets that are trained at once, and one that the caller may have.
        self._run = wandb.init(
            project=self._project, id=identity(run), name=run.path.name, group=group_of(run.path), resume="allow",
            mode=self._mode, dir=str(run.path), settings=private_settings(), reinit="create_new",  # type: ignore[arg-type]
            job_type=config.task, tags=[config.arm, config.model["name"]], allow_val_change=True,
            config=redacted_tree({**config.to_dict(), "provenance": made}),
        )  # fmt: skip
        _open.add(identity(run))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers of a step."""
        self._run.log(dict(values), step=step)

    def evaluated(self, run: RunFolder) -> None:
        """Log the scores, a table of them, an image of the forecasts, and the files to reproduce the run."""
        import wandb

        scores = _scores(run)
        content: dict[str, Any] = {f"test/{name}": value for name, value in scores}
        content["scores"] = wandb.Table(columns=["score", "value"], data=scores)
        if run.output.cases.is_file():
            content["forecasts"] = wandb.Image(picture(run))
        self._run.log(content)
        for kind, name in _FILES.items():
            path = run.path / name
            if path.is_file():
                artifact = wandb.Artifact(f"{identity(run)}-{kind}", type=kind)
                _add(artifact, path)
                self._run.log_artifact(artifact)

    def finish(self) -> None:
        """Flush and close."""
        _open.discard(self._run.id)
        finish(self._run)


class TensorBoard:
    """TensorBoard sink: event files in the run folder."""

    def begin(self, run: RunFolder) -> None:
        """Open a new event file; existing ones are kept."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(run.path / "tensorboard"), write_to_disk=True, flush_secs=_FLUSH_SECONDS)
        self._step = 0

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers of a step."""
        self._step = step
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def evaluated(self, run: RunFolder) -> None:
        """Log scores and an image of the forecasts."""
        for name, value in _scores(run):
            self._writer.add_scalar(f"test/{name}", value, self._step)
        if run.output.cases.is_file():
            self._writer.add_image("forecasts", picture(run), self._step, dataformats="HWC")

    def finish(self) -> None:
        """Flush and close."""
        self._writer.close()


def _add(artifact: Any, path: Path) -> None:
    """Add a file to an artifact; text without secrets, which an earlier version may have recorded."""
    if path.suffix not in _TEXT:
        artifact.add_file(str(path))
        return
    with artifact.new_file(path.name, encoding="utf-8") as copy:
        copy.write(redacted(path.read_text("utf-8")))


def private_settings() -> Any:
    """Return W&B settings that record nothing of the machine and environment; provenance does so without secrets."""
    import wandb

    return wandb.Settings(
        console="off", disable_git=True, disable_code=True, x_disable_meta=True, x_disable_stats=True,
        x_disable_machine_info=True, x_save_requirements=False, silent=True, init_timeout=_START_SECONDS,
    )  # fmt: skip


def finish(run: Any) -> None:
    """Finish a W&B run, and return when its files are complete.

    `Run.finish` returns while W&B's service still writes the file of an offline run. The end of the service waits for
    that, so it is ended, unless this process has another run.
    """
    import wandb

    run.finish()
    if wandb.run is None and not _open:
        wandb.teardown()


def identity(run: RunFolder) -> str:
    """Return the W&B id of a run."""
    made = read_provenance(run.provenance_file)
    text = f"{digest(run.config())} {made.get('data', {}).get('digest')} {run.path.resolve()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _scores(run: RunFolder) -> list[list[Any]]:
    """Return [[score, value], …] of the usual scores that are defined."""
    from polarcast.hpc.evaluation.summary import FEW, summarize
    from polarcast.hpc.scores.records import read_records

    rows = [row for table in summarize(read_records(run.output.scores), (FEW,), None) for row in table.rows]
    return [[str(row.score), row.whole] for row in rows if row.whole is not None]


def picture(run: RunFolder) -> Any:
    """Draw observed above forecast for every saved case, at the lowest height and last lead time: (y, x, 3) uint8."""
    with np.load(run.output.cases) as cases:
        pairs = [_plane(cases[name]) for name in ("observed", "forecast")]
    top = max(float(np.nanmax(pairs[0])), 1e-6)
    shades = np.nan_to_num(np.clip(np.concatenate(pairs, 1) / top, 0, 1), nan=0.5)  # gray where not observed
    gray = (255 * np.concatenate(list(shades), 1)).astype(np.uint8)
    return np.repeat(gray[..., None], 3, -1)


def _plane(fields: Any) -> Any:
    """Return (n, y, x) of an estimate (n, y, x) or a nowcast (n, t, z, y, x)."""
    return fields if fields.ndim == 3 else fields[:, -1, 0]

"""W&B and TensorBoard as sinks of a run's records."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from polarcast.hpc.config.digest import digest
from polarcast.hpc.runs.folder import RunFolder, group_of
from polarcast.hpc.runs.provenance import read_provenance

_FILES = {"manifest": "provenance.json", "model": "model.safetensors", "report": "card.md", "scores": "scores.parquet"}
_START_SECONDS = 60


class WandB:
    """One run of W&B for a run folder: its identity follows from configuration, data and folder."""

    def __init__(self, mode: str, project: str) -> None:
        self._mode, self._project = mode or os.environ.get("WANDB_MODE", "offline"), project
        self._run: Any = None

    def begin(self, run: RunFolder) -> None:
        """Start, or go on with what W&B knows by the same identity. Raises what W&B raises without key or network."""
        import wandb

        config, made = run.config(), read_provenance(run.provenance_file)
        folder = run.path / "wandb"
        folder.mkdir(exist_ok=True)
        # Artifacts are staged there, too, and not in the user's home.
        os.environ.setdefault("WANDB_DATA_DIR", str(folder))
        os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))
        self._run = wandb.init(
            project=self._project, id=identity(run), name=run.path.name, group=group_of(run.path), resume="allow",
            mode=self._mode, dir=str(run.path), settings=discreet(), reinit="finish_previous",  # type: ignore[arg-type]
            job_type=config.task, tags=[config.arm, config.model["name"]], allow_val_change=True,
            config={**config.to_dict(), "provenance": made},
        )  # fmt: skip

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of a step."""
        self._run.log(dict(values), step=step)

    def evaluated(self, run: RunFolder) -> None:
        """A table of scores, a picture, and the files one would want again."""
        import wandb

        told: dict[str, Any] = {"scores": wandb.Table(columns=["score", "value"], data=_scores(run))}
        if run.output.cases.is_file():
            told["forecasts"] = wandb.Image(picture(run))
        self._run.log(told)
        for kind, name in _FILES.items():
            path = run.path / name
            if path.is_file():
                artifact = wandb.Artifact(f"{identity(run)}-{kind}", type=kind)
                artifact.add_file(str(path))
                self._run.log_artifact(artifact)

    def finish(self) -> None:
        """Write what is left."""
        self._run.finish()


class TensorBoard:
    """Event files in the run's folder."""

    def begin(self, run: RunFolder) -> None:
        """Open another file of events beside those there are."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(run.path / "tensorboard"), write_to_disk=True)
        self._step = 0

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of a step."""
        self._step = step
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def evaluated(self, run: RunFolder) -> None:
        """Scores and a picture."""
        for name, value in _scores(run):
            self._writer.add_scalar(f"test/{name}", value, self._step)
        if run.output.cases.is_file():
            self._writer.add_image("forecasts", picture(run), self._step, dataformats="HWC")

    def finish(self) -> None:
        """Write what is left."""
        self._writer.close()


def discreet() -> Any:
    """Settings of W&B that take down nothing of machine and environment: our provenance says it, without secrets."""
    import wandb

    return wandb.Settings(
        console="off", disable_git=True, disable_code=True, x_disable_meta=True, x_disable_stats=True,
        x_disable_machine_info=True, x_save_requirements=False, silent=True, init_timeout=_START_SECONDS,
    )  # fmt: skip


def identity(run: RunFolder) -> str:
    """What W&B knows a run by."""
    made = read_provenance(run.provenance_file)
    text = f"{digest(run.config())} {made.get('data', {}).get('digest')} {run.path.resolve()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _scores(run: RunFolder) -> list[list[Any]]:
    """[[score, value], …] that are defined, of the usual ones."""
    from polarcast.hpc.evaluation.summary import FEW, summarize
    from polarcast.hpc.scores.records import read_records

    rows = [row for table in summarize(read_records(run.output.scores), (FEW,), None) for row in table.rows]
    return [[str(row.score), row.whole] for row in rows if row.whole is not None]


def picture(run: RunFolder) -> Any:
    """Observed above forecast, of every case that is kept, at the lowest height and last lead time: (y, x, 3) bytes."""
    with np.load(run.output.cases) as cases:
        pairs = [_plane(cases[name]) for name in ("observed", "forecast")]
    top = max(float(np.nanmax(pairs[0])), 1e-6)
    shades = np.clip(np.concatenate(pairs, 1) / top, 0, 1)
    grey = (255 * np.concatenate(list(shades), 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def _plane(fields: Any) -> Any:
    """(n, y, x) of an estimate, or of a nowcast (n, t, z, y, x)."""
    return fields if fields.ndim == 3 else fields[:, -1, 0]

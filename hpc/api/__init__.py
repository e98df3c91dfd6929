"""polarcast in Python: data, training, forecasts, scores and comparison, as on the command line.

    import polarcast as pc

    config = pc.load_config("standard", ["data.shards=shards", "arm=dualpol"])
    run = pc.train(config, out="runs/dualpol")
    scores = run.evaluate(split="test")
    scores["csi@threshold=10"]

Names are imported when they are first used: `import polarcast` itself imports neither torch nor numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polarcast._jobs import Submission, submit
    from polarcast._run import Run, add_forecasts, open_run, open_zoo, train
    from polarcast.data.batch import Batch
    from polarcast.data.errors import BadInput, Stopped, WorkFailed
    from polarcast.data.loading.dataset import ShardDataset, open_shards
    from polarcast.hpc.config.load import load_config
    from polarcast.hpc.config.schema import RunConfig
    from polarcast.hpc.inference.prediction import Prediction
    from polarcast.hpc.scores import functional as scores
    from polarcast.hpc.scores.event_scores import Comparison, EventScores, compare

_HOMES = {
    "BadInput": "polarcast.data.errors",
    "Batch": "polarcast.data.batch",
    "Comparison": "polarcast.hpc.scores.event_scores",
    "EventScores": "polarcast.hpc.scores.event_scores",
    "Prediction": "polarcast.hpc.inference.prediction",
    "Run": "polarcast._run",
    "RunConfig": "polarcast.hpc.config.schema",
    "ShardDataset": "polarcast.data.loading.dataset",
    "Stopped": "polarcast.data.errors",
    "Submission": "polarcast._jobs",
    "WorkFailed": "polarcast.data.errors",
    "add_forecasts": "polarcast._run",
    "compare": "polarcast.hpc.scores.event_scores",
    "load_config": "polarcast.hpc.config.load",
    "open_run": "polarcast._run",
    "open_shards": "polarcast.data.loading.dataset",
    "open_zoo": "polarcast._run",
    "scores": "polarcast.hpc.scores.functional",
    "submit": "polarcast._jobs",
    "train": "polarcast._run",
}
__all__ = [
    "BadInput",
    "Batch",
    "Comparison",
    "EventScores",
    "Prediction",
    "Run",
    "RunConfig",
    "ShardDataset",
    "Stopped",
    "Submission",
    "WorkFailed",
    "add_forecasts",
    "compare",
    "load_config",
    "open_run",
    "open_shards",
    "open_zoo",
    "scores",
    "submit",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("polarcast")
    if name not in _HOMES:
        raise AttributeError(f"module 'polarcast' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    found = globals()[name] = home if name == "scores" else getattr(home, name)
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})

"""Run folder: configuration, provenance, log, checkpoints, weights and scores."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.files import write_text
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import RunConfig


@dataclass(frozen=True)
class Output:
    """Output files of an evaluation: score records, and selected forecasts for figures."""

    scores: Path
    cases: Path


class RunFolder:
    """Paths and records of one run: config.yaml, provenance.json, log.jsonl, checkpoints/, weights, scores."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.provenance_file = self.path / "provenance.json"
        self.log_file = self.path / "log.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.weights_file = self.path / "model.safetensors"
        self.output = Output(self.path / "scores.parquet", self.path / "forecasts" / "cases.npz")

    @property
    def is_trained(self) -> bool:
        """Whether training is complete."""
        return self.weights_file.is_file()

    def start(self, config: RunConfig) -> None:
        """Write the configuration of a new run, or check it against that of the run to continue.

        Settings that are not part of the digest may differ, such as the location of the shards; they are updated.

        Raises:
            BadInput: the folder contains a run with another configuration.
        """
        from omegaconf import OmegaConf

        self.path.mkdir(parents=True, exist_ok=True)
        if self.config_file.exists():
            known = self.config()
            if digest(known) != digest(config):
                raise BadInput("contains a run with another configuration", self.path, "choose another folder")
            if known == config:
                return
        write_text(self.config_file, OmegaConf.to_yaml(OmegaConf.create(config.to_dict())))

    def config(self) -> RunConfig:
        """Read the configuration. Raises BadInput if the folder is not a run."""
        if not self.config_file.is_file():
            raise BadInput("not a run: it has no config.yaml", self.path, "start a run with: polarcast train PRESET")
        return load_config(self.config_file, advise=False)

    def log(self, **record: Any) -> None:
        """Append one record to log.jsonl, with the Unix time in seconds."""
        with self.log_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**record, "time": round(time.time(), 2)}) + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield all records of log.jsonl; skip lines that an interruption truncated."""
        if not self.log_file.is_file():
            return
        for line in self.log_file.read_text("utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def best_step(self) -> int | None:
        """Return the step of the kept weights; None for a model that is not trained in steps."""
        steps = [r.get("best_step") for r in self.records() if r["event"] == "validation"]
        return steps[-1] if steps else None

    def rewind_log(self, step: int) -> None:
        """Delete the records after `step`; a run that resumes there writes them again."""
        kept = [json.dumps(r) + "\n" for r in self.records() if r.get("step", 0) <= step]
        if self.log_file.is_file():
            write_text(self.log_file, "".join(kept))


def group_of(path: Path) -> str | None:
    """Return the name of the sweep or suite that contains a run, from its path; None for a standalone run."""
    parents = path.resolve().parents
    for depth, folder in ((2, "trials"), (1, "cells")):
        if len(parents) > depth and parents[depth - 1].name == folder:
            return parents[depth].name
    return None

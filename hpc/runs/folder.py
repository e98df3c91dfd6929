"""Run folder: configuration, provenance, log, checkpoints, weights and scores."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.files import read_limited, write_private, write_text
from polarcast.data.folder_kind import RUN_FILE
from polarcast.data.secrets import redacted, redacted_tree
from polarcast.hpc.config.difference import first_difference
from polarcast.hpc.config.digest import same_run, waits_for_weights
from polarcast.hpc.config.load import load_stored
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.config.stored import WEIGHTS_FILE

BEST_LOST = "best_lost"
"""Event of the log: the best checkpoint was lost, and another one takes its place."""
_MAX_LOG_BYTES = 2**30


@dataclass(frozen=True)
class Output:
    """Output files of an evaluation: score records, and selected forecasts for figures."""

    scores: Path
    cases: Path


class RunFolder:
    """Paths and records of one run: config.yaml, provenance.json, log.jsonl, checkpoints/, weights, scores."""

    is_read_only = False
    """Whether nothing may be written into the folder."""

    def __init__(self, path: Path, trust: bool = False) -> None:
        """Name the files of a run.

        Args:
            path: Folder of the run.
            trust: Whether the user trusts whoever made it, so that its shards may be behind a command or a URL.
        """
        self.path, self.trust = Path(path), trust
        self.config_file = self.path / RUN_FILE
        self.provenance_file = self.path / "provenance.json"
        self.log_file = self.path / "log.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.weights_file = self.path / WEIGHTS_FILE
        self.output = Output(self.path / "scores.parquet", self.path / "forecasts" / "cases.npz")

    @property
    def is_trained(self) -> bool:
        """Whether training is complete."""
        return self.weights_file.is_file()

    @property
    def has_checkpoints(self) -> bool:
        """Whether training has written a checkpoint, valid or not."""
        return any(self.checkpoints.glob("step-*"))

    def check(self, config: RunConfig) -> None:
        """Check that the folder is free for a run, or contains this run.

        Settings that are not part of the digest may differ, such as the location of the shards.

        Raises:
            BadInput: the folder contains a run with another configuration; names the first setting that differs.
        """
        self._checked(config)

    def _checked(self, config: RunConfig) -> RunConfig | None:
        """Return the stored configuration of the run to continue; None for a new one. Raises BadInput; see `check`."""
        if self.is_trained and not self.config_file.exists():
            raise BadInput("contains weights without a config.yaml", self.path, "choose another folder")
        known = load_stored(self.config_file, trust=True) if self.config_file.exists() else None
        if known and not same_run(known, config):
            what = f"contains a run with another configuration: {first_difference(known, config)}"
            raise BadInput(what, self.path, "choose another folder")
        return known

    def start(self, config: RunConfig) -> None:
        """Write the configuration of a new run, or update that of the run to continue. Raises BadInput; see `check`."""
        if self._checked(config) != (given := self.adopt(config)):
            self.write_config(given)

    def adopt(self, config: RunConfig) -> RunConfig:
        """Return the configuration with the weights that the stored one starts from, if it lacks its own.

        A suite configures its runs before those that they start from are trained.

        Raises:
            BadInput: see `check`.
        """
        if not waits_for_weights(config) or not (known := self._checked(config)):
            return config
        bases = [replace(base, config=of.config) for base, of in zip(config.bases, known.bases, strict=True)]
        start = config.start and known.start and replace(known.start, run=config.start.run)
        return config.with_bases(bases).with_start(start)

    def write_config(self, config: RunConfig) -> None:
        """Replace the configuration, also a damaged one.

        With a remote location, which may hold secrets in any form, it is readable by this user only.
        """
        from omegaconf import OmegaConf

        self.path.mkdir(parents=True, exist_ok=True)
        content = OmegaConf.to_yaml(OmegaConf.create(config.to_dict()))
        write = write_private if _may_hold_secrets(content) else write_text
        write(self.config_file, content)

    def config(self) -> RunConfig:
        """Read the configuration. Raises BadInput if the folder is not a run, or its configuration is damaged."""
        if not self.config_file.is_file():
            raise BadInput("not a run: it has no config.yaml", self.path, "start a run with: polarcast train PRESET")
        return load_stored(self.config_file, self.trust)

    def log(self, **record: Any) -> None:
        """Append one record to log.jsonl, without secrets, with the Unix time in seconds."""
        with self.log_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**redacted_tree(record), "time": round(time.time(), 2)}) + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield all records of log.jsonl; skip lines that an interruption truncated, or that are not records."""
        if not self.log_file.is_file():
            return
        yield from records_in(read_limited(self.log_file, _MAX_LOG_BYTES))

    def best_step(self) -> int | None:
        """Return the step of the kept weights; None for a model that is not trained in steps."""
        steps = [r.get("best_step") for r in self.records() if r["event"] in ("validation", BEST_LOST)]
        return steps[-1] if steps else None

    def rewind_log(self, step: int) -> None:
        """Delete the records after `step`; a run that resumes there writes them again."""
        kept = [json.dumps(r) + "\n" for r in self.records() if r.get("step", 0) <= step]
        if self.log_file.is_file():
            write_text(self.log_file, "".join(kept))


def records_in(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the records in lines of a log; skip lines that an interruption truncated, or that are not records."""
    for line in content.decode(errors="replace").splitlines():
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and "event" in record and isinstance(record.get("step", 0), int):
                yield record


def _may_hold_secrets(content: str) -> bool:
    return "pipe:" in content or "://" in content or redacted(content) != content


def group_of(path: Path) -> str | None:
    """Return the name of the sweep or suite that contains a run, from its path; None for a standalone run."""
    parents = path.resolve().parents
    for depth, folder in ((2, "trials"), (1, "cells")):
        if len(parents) > depth and parents[depth - 1].name == folder:
            return parents[depth].name
    return None

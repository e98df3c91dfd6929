"""Score trained runs under perturbed input; the observation that they are scored against stays."""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from polarcast.data.degrade import fields
from polarcast.data.degrade.batches import degrade_for_scores
from polarcast.data.degrade.perturbation import Perturbation
from polarcast.data.degrade.setup import RadarSetup
from polarcast.data.errors import BadInput
from polarcast.data.files import read_json, write_json
from polarcast.data.loading.reader import Reader
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, set_up_torch
from polarcast.hpc.evaluation.evaluate import score
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.intact import require_intact
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.scores.records import Records, read_records, write_records
from polarcast.models.forecaster import Forecaster

FORMAT = "polarcast-degraded/1"
FOLDER = "robustness"
_ALWAYS = "observed"
"""Family of sums that tells the share of pixels without a forecast."""


@dataclass(frozen=True)
class DegradedScores:
    """Records of one run under one perturbation.

    Attributes:
        run: Folder of the run.
        perturbation: What its input is perturbed with.
        families: Families of sums that are needed.
        on: Name of the archive that is scored on; empty for the run's own test split.
    """

    run: Path
    perturbation: Perturbation
    families: tuple[str, ...]
    on: str = ""

    @property
    def folder(self) -> Path:
        """Folder of the records."""
        return (self.run / "on" / self.on if self.on else self.run) / FOLDER / str(self.perturbation)

    @property
    def scores(self) -> Path:
        """File of the records."""
        return self.folder / "scores.parquet"

    @property
    def definition(self) -> Path:
        """File that says what the records are of."""
        return self.folder / "definition.json"

    def known(self, manifest: Manifest) -> Records | None:
        """Return the records if they are complete: of these data, weights and definitions, with all families."""
        if read_json(self.definition) != _definition(self, manifest):
            return None
        try:
            records = read_records(self.scores)
        except BadInput:
            return None
        return records if set(self.families) <= records.sums.keys() else None


def score_degraded(
    job: DegradedScores, manifest: Manifest, on_frames: Callable[[int, int], None] | None = None
) -> Records:
    """Score a run on the test split under a perturbation, and keep the records; complete ones are not repeated.

    The model, and the models that it builds on, see the perturbed input. Earlier records of other families are
    replaced by those of all.

    Args:
        job: Run, perturbation and families.
        manifest: Shards that the run was trained on, or those of the archive `job.on`, all of whose events are a test.
        on_frames: Callback, called with (windows done, total windows).

    Raises:
        BadInput: the run is not trained, its shards are damaged, or the perturbation does not apply to its input.
    """
    if (found := job.known(manifest)) is not None:
        return found
    setup = RadarSetup.of(manifest)
    loaded = _load(job.run, _weights_digest(job.run), manifest.digest(), manifest.source.location)
    config, perturbation = loaded.config, job.perturbation
    seen = perturbation.seen_by(config.variables())
    if obstacle := seen.obstacle(config.variables(), config.data.heights_km, setup.has_site):
        raise BadInput(f"{perturbation} does not apply: {obstacle}", job.run, "leave it out")
    earlier = _families_of_earlier(job, manifest)
    records = score(
        lambda batch: loaded.model.forecast(degrade_for_scores(batch, perturbation, setup), config.evaluate.members),
        loaded.reader, World(), on_frames, only={_ALWAYS, *job.families, *earlier},
    )  # fmt: skip
    job.folder.mkdir(parents=True, exist_ok=True)
    job.definition.unlink(missing_ok=True)  # written last: it says that the records are complete
    write_records(job.scores, records)
    write_json(job.definition, _definition(job, manifest))
    return records


def _families_of_earlier(job: DegradedScores, manifest: Manifest) -> Collection[str]:
    earlier = replace(job, families=()).known(manifest)
    return () if earlier is None else earlier.sums.keys()


def _definition(job: DegradedScores, manifest: Manifest) -> dict[str, object]:
    """Return what the records depend on: perturbation, definitions, data and weights."""
    content = {"version": fields.VERSION, "setup": RadarSetup.of(manifest).as_record()}
    return {
        "format": FORMAT,
        "perturbation": str(job.perturbation),
        "definition": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16],
        "data": manifest.digest(),
        "weights": _weights_digest(job.run),
    }


def _weights_digest(run: Path) -> str:
    file = RunFolder(run).weights_file
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ""


@dataclass(frozen=True)
class _Loaded:
    config: RunConfig
    model: Forecaster
    reader: Reader


@lru_cache(maxsize=1)
def _load(run: Path, weights: str, data: str, shards: str) -> _Loaded:
    """Load a run and its test windows; kept for the perturbations that follow, of the same weights and data."""
    folder, world = RunFolder(run, trust=True), World()
    config = folder.config()
    set_up_torch(config.train.threads, world)
    manifest = read_manifest(shards)
    reader = build_reader(config, manifest, "test", observed=True)
    require_intact(reader, config.data, world)
    return _Loaded(config, load_model(folder, world), reader)

"""Submit a training to Slurm from Python."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from polarcast.data.arguments import flag, path_of
from polarcast.data.errors import BadInput, WorkFailed
from polarcast.data.files import write_private
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.schema import RunConfig
from polarcast.slurm.profile import load_profile
from polarcast.slurm.render import Job, sbatch_text
from polarcast.slurm.rules import check_form, name_of
from polarcast.slurm.submit import by_sbatch, has_slurm


@dataclass(frozen=True)
class Submission:
    """A training that was handed to Slurm.

    Attributes:
        job: Number of the job; None for a dry run.
        script: The batch script.
        run: Folder of the run.
        config: File that the job reads its configuration from.
    """

    job: str | None
    script: str
    run: Path
    config: Path


def submit(
    config: RunConfig,
    cluster: str | Path = "gpu",
    *,
    nodes: int | None = None,
    time: str | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    after: str | None = None,
    dry_run: bool = False,
) -> Submission:
    """Submit a training to Slurm, as `polarcast submit -- train` does.

    Args:
        config: What to train; see `load_config`.
        cluster: Profile that comes with polarcast (gpu, cpu, test), or a YAML file.
        nodes: Number of nodes; the profile's by default.
        time: Time limit, [days-]hours:minutes:seconds; the profile's by default.
        name: Name of the job: up to 100 letters, digits, `_`, `-` and `.`; model, arm, seed and digest by default.
        out: Folder of the run; runs/<name> by default.
        after: Jobs that must succeed first, such as "12:13".
        dry_run: Return the script, but submit nothing. The file of the configuration that it names is not written.

    Raises:
        BadInput: an unknown profile, values that are not allowed, or no Slurm here.
        WorkFailed: Slurm rejected the job.
    """
    if not isinstance(config, RunConfig):
        raise BadInput(f"expected a configuration, got {type(config).__name__}", "config", "use polarcast.load_config")
    given, is_dry = None if out is None else path_of(out, "out"), flag(dry_run, "dry_run")
    content = OmegaConf.to_yaml(OmegaConf.create(config.to_dict()))
    default = name_of(f"{config.model['name']}-{config.arm}-s{config.seed}-{digest(config)[:8]}")
    label = default if name is None else name
    try:
        check_form(label, "name", "name")
        run = given or Path("runs") / label
        file = Path("runs") / "submitted" / f"{label}-{hashlib.sha256(content.encode()).hexdigest()[:8]}.yaml"
        job = Job(("train", str(file), "--out", str(run)), label, nodes, time, None, after)
        script = sbatch_text(load_profile(str(cluster)), job)
        if is_dry:
            return Submission(None, script, run, file)
        if not has_slurm():
            raise ValueError("no Slurm here — submit from a login node, or look at the script with dry_run=True")
        file.parent.mkdir(parents=True, exist_ok=True)
        # It may hold secrets, as the configuration of the run.
        write_private(file, content)
        return Submission(by_sbatch(script), script, run, file)
    except ValueError as error:
        raise BadInput(str(error)) from None
    except RuntimeError as error:
        raise WorkFailed(str(error)) from None

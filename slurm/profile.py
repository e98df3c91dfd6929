"""Cluster profiles: resource requests, and the environment that a job needs."""

import difflib
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

PROFILES = Path(__file__).with_name("profiles")
CONTAINERS = ("apptainer", "pyxis")


@dataclass
class Container:
    """Container image of a job."""

    kind: str = "apptainer"
    """apptainer, or pyxis (enroot, through options of srun)."""
    image: str = ""
    """File or registry address of the image; polarcast must be installed in it."""
    mounts: list[str] = field(default_factory=list)
    """Folders to mount, such as /scratch or /data:/data."""


@dataclass
class Profile:
    """Settings of one cluster. Options that are not set are not requested."""

    partition: str | None = None
    """Name of the partition."""
    account: str | None = None
    """Account to charge."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Required node features, such as a100."""
    time: str = "04:00:00"
    """Time limit of a job, [days-]hours:minutes:seconds."""
    nodes: int = 1
    """Default number of nodes of a training."""
    gpus_per_node: int = 0
    """GPUs per node; one process each."""
    tasks_per_node: int | None = None
    """Processes per node; default: one per GPU, or one without GPUs."""
    cpus_per_task: int = 4
    """CPU cores per process."""
    memory: str | None = None
    """Memory per node, such as 120G."""
    modules: list[str] = field(default_factory=list)
    """Environment modules to load."""
    setup: list[str] = field(default_factory=list)
    """Further shell lines before the command, such as: source /path/to/.venv/bin/activate"""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables to set."""
    container: Container | None = None
    """Container to run in."""
    scratch: str | None = None
    """Node-local disk, such as /local/nvme, where trainings stage their shards."""
    interface: str | None = None
    """Network interface between nodes, such as ib0; default: detected."""
    signal_seconds: int = 120
    """Seconds before the end of a job at which it is signaled, to save and requeue."""
    requeue: bool = True
    """Whether a job is requeued after preemption or a node failure."""
    wandb_mode: str = "offline"
    """WANDB_MODE of jobs; offline, because compute nodes often can't reach the internet."""
    options: list[str] = field(default_factory=list)
    """Further sbatch options, such as --exclusive."""


def load_profile(source: str) -> Profile:
    """Load a bundled profile by name, or a profile from a YAML file.

    Raises:
        ValueError: the profile does not exist or is invalid; the message is one line.
    """
    import yaml

    path = Path(source) if Path(source).suffix in (".yaml", ".yml") else PROFILES / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise ValueError(f"{source}: no such cluster profile — choose from: {names}; or give a YAML file")
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not readable as YAML ({str(error).splitlines()[0]}) — correct the file") from None
    return _build(Profile, content, str(path))


def _build(kind: type[Any], content: Any, where: str) -> Any:
    """Build a dataclass from plain values; check their keys and types."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected keys and values — see slurm/profiles for examples")
    known = [f.name for f in fields(kind)]
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            fix = f"did you mean {near[0]}?" if near else f"choose from: {', '.join(known)}"
            raise ValueError(f"{where}: unknown key {key!r} — {fix}")
        _check_type(key, value, kind, where)
    values = dict(content)
    if isinstance(values.get("container"), dict):
        values["container"] = _container(values["container"], where)
    return kind(**values)


def _container(content: Any, where: str) -> Container:
    container: Container = _build(Container, content, where)
    if container.kind not in CONTAINERS or not container.image:
        raise ValueError(
            f"{where}: container needs an image, and a kind — choose the kind from: {', '.join(CONTAINERS)}"
        )
    return container


def _check_type(key: str, value: Any, kind: type[Any], where: str) -> None:
    hint = get_type_hints(kind)[key]
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    allowed = tuple(get_origin(option) or option for option in options)
    if Container in allowed:
        allowed = (*allowed, dict)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join(t.__name__ for t in allowed if t is not type(None))
        raise ValueError(f"{where}: {key} is {value!r} — give a value of type {names}")

"""What a cluster is like: how to ask it for nodes, and what a job needs there before it can start."""

import difflib
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

PROFILES = Path(__file__).with_name("profiles")
CONTAINERS = ("apptainer", "pyxis")


@dataclass
class Container:
    """An image that the job runs in."""

    kind: str = "apptainer"
    """apptainer, or pyxis (enroot, through options of srun)."""
    image: str = ""
    """File or registry address of the image; it must have polarcast in it."""
    mounts: list[str] = field(default_factory=list)
    """Folders to see inside, such as /scratch or /data:/data."""


@dataclass
class Profile:
    """One cluster. What is left out is not asked for."""

    partition: str | None = None
    """Name of the partition."""
    account: str | None = None
    """Whom the time is charged to."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features of nodes, such as a100."""
    time: str = "04:00:00"
    """Time limit of a job, [days-]hours:minutes:seconds."""
    nodes: int = 1
    """Nodes of a training, unless the command line says otherwise."""
    gpus_per_node: int = 0
    """GPUs of each node; a process for each."""
    tasks_per_node: int | None = None
    """Processes on each node: one for each GPU by default, or one."""
    cpus_per_task: int = 4
    """CPU cores of each process."""
    memory: str | None = None
    """Memory of each node, such as 120G."""
    modules: list[str] = field(default_factory=list)
    """Environment modules to load."""
    setup: list[str] = field(default_factory=list)
    """Further lines of shell before the work, such as: source /path/to/.venv/bin/activate"""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables to set."""
    container: Container | None = None
    """An image to run in."""
    scratch: str | None = None
    """Disk of each node, such as /local/nvme: trainings stage their shards there."""
    interface: str | None = None
    """Network interface between nodes, such as ib0; found by itself by default."""
    signal_seconds: int = 120
    """Seconds before its end at which a job is warned, to save and to go back into the queue."""
    requeue: bool = True
    """Whether a job that was preempted, or has lost a node, goes back into the queue."""
    wandb_mode: str = "offline"
    """WANDB_MODE of jobs: compute nodes often can't reach the internet."""
    options: list[str] = field(default_factory=list)
    """Further options of sbatch, such as --exclusive."""


def load_profile(source: str) -> Profile:
    """A profile that comes with polarcast, by its name, or one in a YAML file.

    Raises:
        ValueError: there is no such profile, or it holds what no profile has; told in one line.
    """
    import yaml

    path = Path(source) if Path(source).suffix in (".yaml", ".yml") else PROFILES / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise ValueError(f"{source}: no such cluster profile — there are: {names}; or give a YAML file")
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not readable as YAML ({str(error).splitlines()[0]}) — mend the file") from None
    return _filled(Profile, content, str(path))


def _filled(kind: type[Any], content: Any, where: str) -> Any:
    """An instance of a dataclass from plain values, each of the type of its default."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected keys and values — see slurm/profiles for examples")
    known = [f.name for f in fields(kind)]
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            fix = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
            raise ValueError(f"{where}: unknown key {key!r} — {fix}")
        _check_type(key, value, kind, where)
    values = dict(content)
    if isinstance(values.get("container"), dict):
        values["container"] = _container(values["container"], where)
    return kind(**values)


def _container(content: Any, where: str) -> Container:
    found: Container = _filled(Container, content, where)
    if found.kind not in CONTAINERS or not found.image:
        raise ValueError(f"{where}: container needs an image and a kind of {', '.join(CONTAINERS)} — add them")
    return found


def _check_type(key: str, value: Any, kind: type[Any], where: str) -> None:
    wanted = get_type_hints(kind)[key]
    options = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    allowed = tuple(get_origin(option) or option for option in options)
    if Container in allowed:
        allowed = (*allowed, dict)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join(t.__name__ for t in allowed if t is not type(None))
        raise ValueError(f"{where}: {key} is {value!r} — give a value of type {names}")

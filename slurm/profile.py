"""Cluster profiles: resource requests, and the environment that a job needs."""

import difflib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from polarcast.slurm.rules import check_count, check_form, shown

PROFILES = Path(__file__).with_name("profiles")
CONTAINERS = ("apptainer", "pyxis")
STAGES = ("data", "cells", "tables")
"""Stages of a suite on a cluster: its data, its cells, and at last its tables and report."""
_FORMS = {
    "partition": "word", "account": "word", "qos": "word", "constraint": "word", "time": "time", "memory": "memory",
    "interface": "word", "wandb_mode": "word", "scratch": "line", "modules": "line", "setup": "line",
    "options": "option", "image": "image", "mounts": "line", "kind": "word",
}  # fmt: skip
"""Form of the text, or of each text of a list; see `rules`."""
_LEAST = {"nodes": 1, "tasks_per_node": 1, "cpus_per_task": 1, "gpus_per_node": 0, "signal_seconds": 0}


@dataclass
class Container:
    """Container image of a job."""

    kind: str = "apptainer"
    """apptainer, or pyxis (enroot, through options of srun)."""
    image: str = ""
    """File or registry address of the image; polarcast must be installed in it."""
    mounts: list[str] = field(default_factory=list)
    """Folders to mount, such as /scratch or /data:/data."""


_TYPES = {
    str: "text, in quotes", int: "a whole number", bool: "true or false", list: "a list of texts, in quotes",
    dict: "texts by name, in quotes", Container: "keys and values",
}  # fmt: skip


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
    """Further shell lines before the command, such as: source /path/to/.venv/bin/activate. They run as they are."""
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
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Other settings for a stage of `bench --cluster`: data, cells, tables; such as data: {partition: cpu}."""

    def of_stage(self, stage: str) -> "Profile":
        """Return the settings for a stage of a suite."""
        return replace(self, stages={}, **_with_container(self.stages.get(stage, {}), f"stages.{stage}"))


def load_profile(source: str) -> Profile:
    """Load a bundled profile by name, or a profile from a YAML file.

    Raises:
        ValueError: the profile does not exist or is invalid; the message is one line.
    """
    import yaml

    check_form(source, "line", "cluster")
    path = Path(source) if Path(source).suffix in (".yaml", ".yml") else PROFILES / f"{source}.yaml"
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
    except (FileNotFoundError, NotADirectoryError):
        names = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise ValueError(f"{source}: no such cluster profile — choose from: {names}; or give a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML ({str(error).splitlines()[0]}) — correct the file") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror} — choose another file") from None
    return profile_of(content, str(path))


def profile_of(content: Any, where: str) -> Profile:
    """Return the profile of plain values, such as those of `dataclasses.asdict`.

    Raises:
        ValueError: a key or value is not allowed; the message is one line.
    """
    profile: Profile = _build(Profile, content, where)
    check_profile(profile, where)
    return profile


def check_profile(profile: Profile, where: str = "profile") -> None:
    """Check the types of all values, and that none can add a line or an option to a job script.

    Raises:
        ValueError: a value is not allowed; the message is one line.
    """
    _check(profile, where)
    for name, value in profile.environment.items():
        check_form(name, "variable", f"{where}: environment: the name of a variable")
        check_form(value, "line", f"{where}: environment: {name}")
    for stage in profile.stages:
        if stage not in STAGES:
            raise ValueError(f"{where}: unknown stage {shown(stage)} — choose from: {', '.join(STAGES)}")
        if "stages" in profile.stages[stage]:
            raise ValueError(f"{where}: stages.{stage} has stages of its own — remove them")
        _check_keys(Profile, profile.stages[stage], f"{where}: stages.{stage}")
        check_profile(profile.of_stage(stage), f"{where}: stages.{stage}")
    if profile.container is None:
        return
    _check(profile.container, where)
    if profile.container.kind not in CONTAINERS:
        raise ValueError(
            f"{where}: container: kind is {shown(profile.container.kind)} — choose from: {', '.join(CONTAINERS)}"
        )


def _check(values: Profile | Container, where: str) -> None:
    """Check the types and forms of the values of a dataclass."""
    for key, hint in get_type_hints(type(values)).items():
        value = getattr(values, key)
        if not _has_type(value, hint):
            raise ValueError(f"{where}: {key} is {shown(value)} — give {_expected(hint)}")
        if key in _LEAST and value is not None:
            check_count(value, _LEAST[key], f"{where}: {key}")
        for text in value if isinstance(value, list) else [value]:
            if key in _FORMS and text is not None:
                check_form(text, _FORMS[key], f"{where}: {key}")


def _build(kind: type[Any], content: Any, where: str) -> Any:
    """Build a dataclass from plain values; check their keys."""
    _check_keys(kind, content, where)
    return kind(**_with_container(content, where))


def _check_keys(kind: type[Any], content: Any, where: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected keys and values — see slurm/profiles for examples")
    known = [f.name for f in fields(kind)]
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            fix = f"did you mean {near[0]}?" if near else f"choose from: {', '.join(known)}"
            raise ValueError(f"{where}: unknown key {shown(key)} — {fix}")


def _with_container(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Return plain values with their container built, and their variables as text. Raises ValueError for odd keys."""
    values = dict(content)
    if isinstance(values.get("container"), dict):
        values["container"] = _build(Container, values["container"], where)
    if isinstance(values.get("environment"), dict):
        values["environment"] = {name: _as_text(value) for name, value in values["environment"].items()}
    return values


def _as_text(value: Any) -> Any:
    """Return a number as text; true and false stay, because shells know no such values."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _has_type(value: Any, hint: Any) -> bool:
    """Whether a value, and each value in it, has the type of a hint."""
    if hint is Any:
        return True
    if isinstance(hint, UnionType):
        return any(_has_type(value, option) for option in get_args(hint))
    kind = get_origin(hint) or hint
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return False
    inner = get_args(hint)
    if kind is dict:
        return all(_has_type(key, inner[0]) and _has_type(one, inner[1]) for key, one in value.items())
    return kind is not list or all(_has_type(one, inner[0]) for one in value)


def _expected(hint: Any) -> str:
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kinds = [get_origin(option) or option for option in options]
    return " or ".join(_TYPES[kind] for kind in kinds if kind in _TYPES)

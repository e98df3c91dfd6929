"""Open a net of the zoo as a run: a configuration without places, weights, and a card."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput, shown
from polarcast.hpc.config.load import load_stored
from polarcast.hpc.config.schema import BaseRun, RunConfig
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.zoo.note import CONFIG, NOTE, WEIGHTS, ZooNote, card_of, read_net
from polarcast.hpc.zoo.reference import net_folder
from polarcast.models.common.settings import NEVER
from polarcast.models.registry import get_model


class ZooRun(RunFolder):
    """A net of the zoo, verified; it can be used wherever a finished run is only read."""

    is_read_only = True

    def __init__(self, folder: Path) -> None:
        """Verify a net. Raises BadInput: a file is damaged, or no net has such a configuration; see `read_net`."""
        super().__init__(folder)
        self.weights_file = folder / WEIGHTS
        self.note: ZooNote = read_net(folder)
        self._config = _checked(load_stored(self.config_file), self.note, folder)

    def config(self) -> RunConfig:
        """Return the configuration, which was read and checked when the net was opened."""
        return self._config

    def best_step(self) -> int | None:
        """Return the step of the weights, from the card; None for a model that is not trained in steps."""
        step = card_of(self.path).get("best_step")
        return step if isinstance(step, int) else None


def open_net(reference: str) -> ZooRun:
    """Open a net by `zoo:` and its name, path or URL; `net_folder` says which, and raises BadInput."""
    return ZooRun(net_folder(reference))


def portable(config: RunConfig) -> RunConfig:
    """Return a configuration with the defaults of all settings that do not affect the result: those of a machine.

    Its digest is the same. The runs that it uses lose their folders: weights of bases are among those of the model.
    """
    moved = replace(_of_any_machine(config), model={"name": config.model["name"], **_model_of_any_machine(config)})
    start = config.start and replace(config.start, run="", config=portable(config.start.config))
    return moved.with_start(start).with_bases([BaseRun("", portable(base.config)) for base in config.bases])


def check_kind(config: RunConfig, where: object) -> None:
    """Raise BadInput for a run that forecasts nothing by itself."""
    model = get_model(config.model["name"])
    if model.external:
        raise BadInput("its forecasts were made by other software, so it has no model", where, "choose another run")
    if model.sees_truth:
        raise BadInput(f"{config.model['name']} receives the truth as input", where, "choose a run that forecasts")
    if config.is_placebo:
        raise BadInput("a placebo takes ZDR and KDP from other events", where, "choose an arm that forecasts")


def _checked(config: RunConfig, note: ZooNote, folder: Path) -> RunConfig:
    """Return the configuration of a net. Raises BadInput if it sets what a net may not, or is not that of zoo.json."""
    check_kind(config, folder)
    expected = dict(_flat(portable(config).to_dict()))
    for key, value in _flat(config.to_dict()):
        if expected.get(key) != value:
            what = f"sets {key}={shown(value)}, and a net of the zoo sets nothing of a machine"
            raise BadInput(what, folder / CONFIG, "ask whoever made it to pack it with: polarcast zoo add")
    told = facts_of(config)
    for key, value in told.items():
        if getattr(note, key) != value:
            what = f"says {key}={shown(getattr(note, key))}, and config.yaml {shown(value)}"
            raise BadInput(what, folder / NOTE, "ask whoever made it to pack it again")
    return config


def facts_of(config: RunConfig) -> dict[str, Any]:
    """Return what `zoo.json` says of a configuration."""
    return {
        "task": config.task,
        "arm": config.arm,
        "model": config.model["name"],
        "variables": tuple(config.variables()),
        "heights_km": tuple(config.data.heights_km),
        "frames": config.frames,
        "lead_frames": config.lead_frames,
    }


def _of_any_machine(part: Any) -> Any:
    """Return settings with defaults where the value does not affect the result, also in the settings inside them."""
    plain, kept = type(part)(), {}
    for field in fields(part):
        value = getattr(part, field.name)
        if is_dataclass(getattr(plain, field.name)):
            kept[field.name] = _of_any_machine(value)
        elif field.metadata.get("digest") != NEVER:
            kept[field.name] = value
    return replace(plain, **kept)


def _model_of_any_machine(config: RunConfig) -> dict[str, Any]:
    kind = get_model(config.model["name"]).config
    plain, values = asdict(kind()), {key: value for key, value in config.model.items() if key != "name"}
    local = {field.name for field in fields(kind) if field.metadata.get("digest") == NEVER}
    return {key: plain[key] if key in local else value for key, value in values.items()}


def _flat(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested dicts and lists of dicts."""
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _flat(value, f"{key}.{name}".removeprefix("."))
    elif isinstance(tree, list) and any(isinstance(one, Mapping) for one in tree):
        for number, value in enumerate(tree):
            yield from _flat(value, f"{key}.{number}")
    else:
        yield key, tree

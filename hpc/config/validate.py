"""Validate the values of a configuration whose types are correct."""

from polarcast.data.archive import VARIABLES
from polarcast.data.errors import BadInput
from polarcast.hpc.config.schema import DUALPOL, DataConfig, RunConfig, TrainConfig
from polarcast.hpc.scores.query import check_single
from polarcast.models.registry import get_model

ARMS = ("radar", "dualpol")
AUTO = "auto"
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "data": {"reader": ("mapped", "stream"), "verify": ("sums", "sizes")},
    "train": {"engine": ("deepspeed", "ddp"), "precision": (AUTO, "fp32", "bf16")},
}
TRACKERS = ("wandb", "tensorboard")
_POSITIVE = ("global_batch", "micro_batch", "validate_every", "log_every")


def check(config: RunConfig) -> None:
    """Validate a configuration. Raises BadInput for invalid or inconsistent values."""
    if config.task not in DUALPOL:
        raise BadInput(f"unknown task {config.task!r}", "task", f"choose from: {', '.join(DUALPOL)}")
    if config.task not in get_model(config.model["name"]).tasks:
        raise BadInput(f"{config.model['name']} does not support {config.task}", "model.name", "choose another model")
    if config.arm not in ARMS:
        raise BadInput(f"unknown arm {config.arm!r}", "arm", f"choose from: {', '.join(ARMS)}")
    _check_variables(config)
    if config.is_nowcast and config.data.context:
        raise BadInput("not supported for nowcasts", "data.context", "remove it, and set data.seen_frames instead")
    _check_base(config)
    _check_data(config.data)
    _check_choices(config)
    _check_train(config.train)


def _check_base(config: RunConfig) -> None:
    name = config.model["name"]
    if get_model(name).needs_base and not config.base:
        raise BadInput(f"{name} requires a trained base run", "base", "give its folder, such as base=runs/unet")
    if config.base and not get_model(name).needs_base:
        raise BadInput(f"{name} does not take a base run", "base", "remove it, or choose another model.name")
    if config.data.only_held_out and not config.data.hold_out:
        raise BadInput("no events are held out", "data.only_held_out", "set data.hold_out to the value of the base run")


def _check_choices(config: RunConfig) -> None:
    for part, keys in CHOICES.items():
        for key, choices in keys.items():
            if (value := getattr(getattr(config, part), key)) not in choices:
                raise BadInput(f"unknown value {value!r}", f"{part}.{key}", f"choose from: {', '.join(choices)}")


def _check_train(train: TrainConfig) -> None:

    check_single(train.validate_scores, "train.validate_scores")
    if unknown := [name for name in train.track if name not in TRACKERS]:
        raise BadInput(f"unknown tracker {unknown[0]!r}", "train.track", f"choose from: {', '.join(TRACKERS)}")
    for key, value in vars(train).items():
        if isinstance(value, int | float) and (value < 0 or (value == 0 and key in _POSITIVE)):
            raise BadInput(f"must be positive, got {value}", f"train.{key}", "give a larger value")
    if isinstance(train.micro_batch, str) and train.micro_batch != AUTO:
        raise BadInput(f"unknown value {train.micro_batch!r}", "train.micro_batch", f"give a number or {AUTO}")
    if train.zero_stage > (3 if train.engine == "deepspeed" else 0):
        raise BadInput(
            f"{train.engine} does not support ZeRO stage {train.zero_stage}",
            "train.zero_stage",
            "give 0 to 3 with engine=deepspeed, or 0",
        )
    if train.offload_optimizer and not train.zero_stage:
        raise BadInput("requires ZeRO stage 1 or higher", "train.offload_optimizer", "set train.zero_stage=1")
    if train.average_decay >= 1:
        raise BadInput(f"must be below 1, got {train.average_decay}", "train.average_decay", "give for example 0.999")


def _check_data(data: DataConfig) -> None:
    for key in ("balance", "max_bad_share", "hold_out"):
        if not 0 <= getattr(data, key) <= 1:
            raise BadInput(f"{getattr(data, key)} is not a fraction", f"data.{key}", "give a number from 0 to 1")
    for key, least in (
        ("context", 0),
        ("crop", 0),
        ("seen_frames", 1),
        ("lead_frames", 1),
        ("concentration_jitter_db", 0),
    ):
        if getattr(data, key) < least:
            raise BadInput(f"{getattr(data, key)} is too small", f"data.{key}", f"give {least} or more")
    if data.workers < 0 or min(data.stream.lanes, data.stream.shuffle_shards) < 1 or data.stream.retries < 0:
        raise BadInput(
            "value too small",
            "data.workers, data.stream",
            "give 0 or more for workers and retries, 1 or more for lanes and shuffle_shards",
        )


def _check_variables(config: RunConfig) -> None:
    variables = config.variables()
    unknown = [v for v in variables if v not in VARIABLES]
    if unknown:
        raise BadInput(f"unknown variable {unknown[0]!r}", "data.variables", f"choose from: {', '.join(VARIABLES)}")
    if config.task == "qpe" and "kdp" in variables:
        raise BadInput(
            "KDP is forbidden in QPE: the archive's rain grid is computed from it",
            "data.variables",
            "use zh and zdr",
        )

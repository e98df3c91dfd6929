"""What a configuration of the right types may still have wrong."""

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
    """Raises BadInput for what can't be trained as it stands."""
    if config.task not in DUALPOL:
        raise BadInput(f"unknown task {config.task!r}", "task", f"there are: {', '.join(DUALPOL)}")
    if config.task not in get_model(config.model["name"]).tasks:
        raise BadInput(f"{config.model['name']} does not do {config.task}", "model.name", "choose another model")
    if config.arm not in ARMS:
        raise BadInput(f"unknown arm {config.arm!r}", "arm", f"there are: {', '.join(ARMS)}")
    _check_variables(config)
    if config.is_nowcast and config.data.context:
        raise BadInput("a nowcast sees data.seen_frames frames", "data.context", "leave it out")
    _check_base(config)
    _check_data(config.data)
    _check_choices(config)
    _check_train(config.train)


def _check_base(config: RunConfig) -> None:
    name = config.model["name"]
    if get_model(name).needs_base and not config.base:
        raise BadInput(f"{name} builds on a trained run", "base", "give its folder, as base=runs/unet")
    if config.base and not get_model(name).needs_base:
        raise BadInput(f"{name} builds on no other run", "base", "leave it out, or choose another model.name")
    if config.data.only_held_out and not config.data.hold_out:
        raise BadInput("no events are held out", "data.only_held_out", "set data.hold_out, as the base has it")


def _check_choices(config: RunConfig) -> None:
    for part, keys in CHOICES.items():
        for key, choices in keys.items():
            if (value := getattr(getattr(config, part), key)) not in choices:
                raise BadInput(f"unknown value {value!r}", f"{part}.{key}", f"there are: {', '.join(choices)}")


def _check_train(train: TrainConfig) -> None:

    check_single(train.validate_scores, "train.validate_scores")
    if unknown := [name for name in train.track if name not in TRACKERS]:
        raise BadInput(f"unknown tracker {unknown[0]!r}", "train.track", f"there are: {', '.join(TRACKERS)}")
    for key, value in vars(train).items():
        if isinstance(value, int | float) and (value < 0 or (value == 0 and key in _POSITIVE)):
            raise BadInput(f"must be positive, got {value}", f"train.{key}", "give a larger value")
    if isinstance(train.micro_batch, str) and train.micro_batch != AUTO:
        raise BadInput(f"unknown value {train.micro_batch!r}", "train.micro_batch", f"give a number, or {AUTO}")
    if train.zero_stage > (3 if train.engine == "deepspeed" else 0):
        raise BadInput(f"{train.engine} has no stage {train.zero_stage}", "train.zero_stage", "0 to 3, with deepspeed")
    if train.offload_optimizer and not train.zero_stage:
        raise BadInput("needs a stage of 1 or more", "train.offload_optimizer", "set train.zero_stage=1")
    if train.average_decay >= 1:
        raise BadInput(f"{train.average_decay} would never move", "train.average_decay", "give less than 1")


def _check_data(data: DataConfig) -> None:
    for key in ("balance", "max_bad_share", "hold_out"):
        if not 0 <= getattr(data, key) <= 1:
            raise BadInput(f"{getattr(data, key)} is no share", f"data.{key}", "give a number from 0 to 1")
    for key, least in (
        ("context", 0),
        ("crop", 0),
        ("seen_frames", 1),
        ("lead_frames", 1),
        ("concentration_jitter_db", 0),
    ):
        if getattr(data, key) < least:
            raise BadInput(f"{getattr(data, key)} is too few", f"data.{key}", f"give {least} or more")
    if data.workers < 0 or min(data.stream.lanes, data.stream.shuffle_shards) < 1 or data.stream.retries < 0:
        raise BadInput("negative, or no lane or shard at all", "data.workers, data.stream", "give larger values")


def _check_variables(config: RunConfig) -> None:
    variables = config.variables()
    unknown = [v for v in variables if v not in VARIABLES]
    if unknown:
        raise BadInput(f"unknown variable {unknown[0]!r}", "data.variables", f"there are: {', '.join(VARIABLES)}")
    if config.task == "qpe" and "kdp" in variables:
        raise BadInput(
            "KDP is forbidden in QPE: the archive's rain grid is computed from it",
            "data.variables",
            "use zh and zdr",
        )

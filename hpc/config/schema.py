"""Configuration of a run: data, model, training and evaluation."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from polarcast.data.archive import HEIGHTS_KM, VARIABLES
from polarcast.data.frame_quality.rule import DROP_RULES, QUALITY
from polarcast.data.shards.health import SIZES, SUMS
from polarcast.models.common.settings import ALWAYS, NEVER, setting

DUALPOL = {"qpe": ("zh", "zdr"), "nowcast": ("zh", "zdr", "kdp")}
"""Variables of the dual-pol arm of each task."""
PLACEBO = "placebo"
ARMS = ("radar", "dualpol", PLACEBO)
"""Arms of a run; see `RunConfig.arm`."""
PROPORTIONS, LEVELS = "proportions", "levels"
AUTO = "auto"
TRACKERS = ("wandb", "tensorboard")
_MOST_STEPS = 10**9
_MOST_FRAMES = 1000
_MOST_SECONDS = 10**8


@dataclass
class StreamConfig:
    """Settings for streaming shards (`data.reader=stream`)."""

    lanes: int = setting(4, ALWAYS, least=1, most=10_000)
    """Shards read in parallel over all processes, ideally a multiple of their number. Affects the sample order."""
    shuffle_shards: int = setting(2, ALWAYS, least=1, most=10_000)
    """Shards held in memory and shuffled together in each lane. Affects the sample order."""
    retries: int = setting(4, NEVER, least=0, most=100)
    """Retries per shard after the first attempt, with exponential backoff from 0.5 s."""
    stall_seconds: float = setting(60.0, NEVER, above=0, most=_MOST_SECONDS)
    """Timeout for a stream that delivers no bytes, in seconds; the stream is then retried."""


@dataclass
class DataConfig:
    """Settings for shards, readers, augmentation and the input of the model."""

    shards: str = setting("shards", NEVER)
    """Folder of shards with a manifest.json, or a URL: https://host/shards, pipe:aws s3 cp s3://bucket/{name} -"""
    reader: str = setting("mapped", ALWAYS, choices=("mapped", "stream"))
    """Shard reader. mapped: random access to local files; stream: whole shards from any source WebDataset can open."""
    stage_to: str | None = setting(None, NEVER)
    """Folder on a node-local disk to copy the shards to, once, such as /local/nvme."""
    verify: str = setting(SUMS, NEVER, choices=(SUMS, SIZES))
    """Shard check before the first step. sums: SHA-256, repeated only after a file changes; sizes: file sizes only."""
    max_bad_share: float = setting(0.01, NEVER, least=0, most=1)
    """Maximum fraction of training windows in bad shards, 0 to 1. Bad shards are skipped and logged."""
    balance: float = setting(0.0, ALWAYS, least=0, most=1)
    """Fraction of training samples drawn in proportion to heavy rain, 0 to 1. Does not affect evaluation."""
    workers: int = setting(2, NEVER, least=0, most=1024)
    """Prefetch threads; 0: read when a step needs the batch."""
    map_gib: float | None = setting(None, NEVER, least=0, most=10**6)
    """Maximum size of memory-mapped shards per process, in GiB; default: 1/16 of the memory. Larger splits are read."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    """Settings for `data.reader=stream`."""
    crop: int = setting(0, least=0, most=65_536)
    """Side of the random crop of each training sample, in pixels; 0: no crop."""
    flip_rotate: bool = setting(False, was="turn")
    """Randomly flip and rotate each training sample (the eight symmetries of a square)."""
    concentration_jitter_db: float = setting(0.0, was="thicken_db", least=0, most=20)
    """Maximum random change of the drop concentration per training sample, in dB: shifts zh, scales kdp and rain."""
    degrade: list[str] = setting([])
    """Random perturbations of the input of training samples, such as zdr_bias=0.5 (up to ±0.5 dB) and noise=2."""
    seen_frames: int = setting(10, least=1, most=_MOST_FRAMES)
    """Input frames of a nowcast."""
    lead_frames: int = setting(10, least=1, most=_MOST_FRAMES)
    """Forecast frames of a nowcast."""
    context: int = setting(0, least=0, most=_MOST_FRAMES)
    """Earlier frames in the input of a QPE model; at the start of an event its first frame is repeated."""
    hold_out: float = setting(0.0, least=0, most=1)
    """Fraction of training events withheld from this model, 0 to 1, for training a model on top of it."""
    only_held_out: bool = False
    """Train only on the events withheld by `hold_out`."""
    drop_poor: float = setting(0.0, least=0, below=1)
    """Fraction of training windows to drop, 0 to 1: those with the poorest input frames. Does not affect evaluation."""
    drop_by: str = setting(QUALITY, choices=DROP_RULES)
    """Windows to drop. quality: by a classifier of frames; random: as many at random, the control for it."""
    variables: list[str] | None = setting(None, ALWAYS, choices=VARIABLES, shortest=1, distinct=True)
    """Input variables instead of those of the arm: any of zh, zdr, kdp."""
    heights_km: list[float] = setting(
        list(HEIGHTS_KM), ALWAYS, above=0, most=100, shortest=1, longest=1000, distinct=True
    )
    """Heights of the input fields, in km."""


@dataclass
class TrainConfig:
    """Settings for training. The cost is proportional to steps × global_batch, for any number of processes."""

    steps: int = setting(10_000, ALWAYS, least=1, most=_MOST_STEPS)
    """Optimizer steps."""
    global_batch: int = setting(32, ALWAYS, least=1, most=2**20)
    """Samples per optimizer step, over all processes."""
    micro_batch: int | str = setting(32, NEVER, least=1, most=2**20, choices=(AUTO,))
    """Maximum samples per forward pass of a process, with gradient accumulation; auto: as many as fit in memory."""
    learning_rate: float = setting(1e-3, ALWAYS, least=0, most=1000)
    """Peak learning rate of AdamW."""
    warmup_steps: int = setting(100, ALWAYS, least=0, most=_MOST_STEPS)
    """Steps of linear warm-up, followed by cosine decay to zero."""
    weight_decay: float = setting(0.01, ALWAYS, least=0, most=1000)
    """Decoupled weight decay of AdamW."""
    clip_norm: float = setting(1.0, ALWAYS, least=0, most=10**9)
    """Maximum gradient norm for clipping; 0: no clipping."""
    average_decay: float = setting(0.0, ALWAYS, least=0, below=1)
    """Decay of an exponential moving average of the weights, such as 0.999; used for validation and scores. 0: none."""
    precision: str = setting(AUTO, ALWAYS, choices=(AUTO, "fp32", "bf16"))
    """Compute precision. bf16: autocast, with fp32 weights and moments; fp32; auto: bf16 on GPUs, fp32 on CPUs."""
    engine: str = setting("deepspeed", NEVER, choices=("deepspeed", "ddp"))
    """Training backend: deepspeed, or ddp (torch DistributedDataParallel) for comparison."""
    start_from: Any = setting(None, NEVER)
    """Folder of a trained run whose weights training starts from, to fine-tune it; a `StartRun` after loading."""
    zero_stage: int = setting(0, NEVER, least=0, most=3)
    """ZeRO stage: shard moments (1), also gradients (2), also weights (3). Saves memory, but is slower."""
    offload_optimizer: bool = setting(False, NEVER)
    """Keep the optimizer state in host memory (stages 1 to 3)."""
    checkpoint_activations: bool = setting(False, NEVER)
    """Recompute the activations within blocks during the backward pass, to save memory."""
    compile: bool = setting(False, NEVER)
    """Use torch.compile: a minute or more at startup, for faster steps on GPUs."""
    graphs: bool | str = setting(AUTO, NEVER, choices=(AUTO,))
    """Launch each step as CUDA graphs. auto: where possible, on one GPU; true: the same, but log why it is not."""
    profile: int = setting(0, NEVER, least=0, most=10_000)
    """Steps to profile, after a warm-up of three: trace for Perfetto in `profile/`, a summary in the log; 0: none."""
    stop_seconds: float = setting(120.0, NEVER, least=0, most=_MOST_SECONDS)
    """Seconds before the Slurm time limit at which to save and requeue the job; 0: never."""
    heartbeat_seconds: float = setting(480.0, NEVER, least=0, most=_MOST_SECONDS)
    """Timeout without progress of a multi-process run, in seconds; the error names the stuck process. 0: never."""
    explode: float = setting(1000.0, NEVER, least=0, most=10**9)
    """Stop at a loss above this multiple of the median of the last 100 losses; 0: only at a non-finite loss."""
    validate_every: int = setting(500, ALWAYS, least=1, most=_MOST_STEPS)
    """Steps between validations; each also writes a checkpoint."""
    validate_windows: int = setting(0, least=0, most=_MOST_STEPS)
    """Windows per validation, evenly spaced over the split; 0: all. Generative models take seconds per window."""
    validate_scores: list[str] = setting([], NEVER)
    """Scores to log with each validation, such as csi@threshold=35. They do not select the best checkpoint."""
    checkpoint_every: int = setting(0, NEVER, least=0, most=_MOST_STEPS)
    """Steps between additional checkpoints; 0: none."""
    keep_checkpoints: int = setting(2, NEVER, least=0, most=_MOST_STEPS)
    """Number of newest checkpoints to keep, in addition to the best one."""
    log_every: int = setting(10, NEVER, least=1, most=_MOST_STEPS)
    """Steps between log records."""
    track: list[str] = setting([], NEVER, choices=TRACKERS, distinct=True)
    """Trackers to update with each validation: wandb (offline unless WANDB_MODE is set), tensorboard."""
    nodes: int = setting(0, NEVER, least=0, most=100_000)
    """Nodes that `polarcast bench --cluster` gives a training; 0: one process, on a part of a node."""
    threads: int = setting(0, NEVER, least=0, most=4096)
    """CPU threads per process; 0: divide the cores among the local processes. Affects the last digits."""


@dataclass
class EvaluateConfig:
    """Settings for evaluation."""

    members: int = setting(1, least=1, most=10_000)
    """Ensemble size of a generative model; other models return one forecast."""


@dataclass
class RunConfig:
    """Configuration of one run: task, arm, data, model, training and evaluation."""

    task: str = setting("qpe", ALWAYS, choices=tuple(DUALPOL))
    """Task. qpe: rain rate from radar fields of the same time; nowcast: future zh from past radar fields."""
    arm: str = setting("dualpol", ALWAYS, choices=ARMS)
    """Input: radar (ZH), dualpol (also ZDR, and KDP for nowcasts), or placebo (as dualpol, but from other events)."""
    match_params: bool = setting(True, ALWAYS)
    """Choose channel widths so that both arms have the parameter count of the dual-pol arm, within 1%."""
    match_by: str = setting(PROPORTIONS, choices=(PROPORTIONS, LEVELS))
    """Rule of `match_params`. proportions: keep those of the widths; levels: as in runs before this setting."""
    seed: int = setting(0, ALWAYS, least=0, most=2**63 - 1)
    """Seed of the initial weights and of the sample order."""
    data: DataConfig = field(default_factory=DataConfig)
    """Shards, readers, augmentation and the input of the model."""
    model: Any = setting({"name": "unet"}, ALWAYS)
    """`name`, and the settings of that model."""
    base: Any = None
    """Folder of the trained run that the model builds on, or several; a `BaseRun`, or a list of them, after loading."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Training."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """Evaluation."""

    def variables(self) -> tuple[str, ...]:
        """Return the input variables of this run."""
        return tuple(self.data.variables or self.arm_variables(self.arm))

    def arm_variables(self, arm: str) -> tuple[str, ...]:
        """Return the input variables of an arm, ignoring `data.variables`."""
        return ("zh",) if arm == "radar" else DUALPOL[self.task]

    @property
    def bases(self) -> "tuple[BaseRun, ...]":
        """Runs that the model builds on, none, one or several."""
        return tuple(self.base) if isinstance(self.base, list) else (self.base,) if self.base else ()

    def with_bases(self, bases: "Sequence[BaseRun]") -> "RunConfig":
        """Return the configuration with other base runs, as many as before."""
        return replace(self, base=list(bases) if isinstance(self.base, list) else next(iter(bases), None))

    @property
    def start(self) -> "StartRun | None":
        """Run whose weights training starts from; None if it starts from random ones."""
        return self.train.start_from if isinstance(self.train.start_from, StartRun) else None

    def with_start(self, start: "StartRun | None") -> "RunConfig":
        """Return the configuration with another run to start from."""
        return replace(self, train=replace(self.train, start_from=start))

    def without_seed(self) -> "RunConfig":
        """Return the configuration as if its seed, and those of the runs it uses, were 0, as of all runs of a model."""
        start = self.start and StartRun("", self.start.config.without_seed())
        without = replace(self, seed=0).with_start(start)
        return without.with_bases([BaseRun("", base.config.without_seed()) for base in self.bases])

    @property
    def is_placebo(self) -> bool:
        """Whether all input variables but ZH come from other events."""
        return self.arm == PLACEBO

    @property
    def solves_widths(self) -> bool:
        """Whether channel widths, if the model has any, are solved to match the parameters of the dual-pol arm."""
        return self.match_params and self.variables() != self.arm_variables("dualpol")

    @property
    def is_nowcast(self) -> bool:
        """Whether the task is to forecast future frames."""
        return self.task == "nowcast"

    @property
    def frames(self) -> int:
        """Number of input frames."""
        return self.data.seen_frames if self.is_nowcast else 1 + self.data.context

    @property
    def lead_frames(self) -> int:
        """Number of forecast frames; 0 for QPE."""
        return self.data.lead_frames if self.is_nowcast else 0

    def to_dict(self) -> dict[str, Any]:
        """Return nested dicts and lists, for files and hashing."""
        return asdict(self)


@dataclass
class BaseRun:
    """A trained run that another model builds on. Its configuration is stored with that of the model."""

    run: str
    """Folder of the run."""
    config: RunConfig
    """Configuration of the run."""


@dataclass
class StartRun:
    """A trained run whose weights another training starts from. It is stored with that of the new run."""

    run: str
    """Folder of the run."""
    config: RunConfig
    """Configuration of the run."""
    weights: str = ""
    """SHA-256 of its weights, which the digest of the new run depends on; empty as long as it is not trained."""
    grid: list[int] | None = None
    """Size of the fields it was trained on in pixels, [y, x]; None if its card does not tell."""

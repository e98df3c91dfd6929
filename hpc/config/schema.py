"""What a run reads, how it is trained and how it is scored: the parts of its configuration."""

from dataclasses import asdict, dataclass, field
from typing import Any

from polarcast.data.archive import HEIGHTS_KM
from polarcast.models.common.settings import ALWAYS, NEVER, setting

DUALPOL = {"qpe": ("zh", "zdr"), "nowcast": ("zh", "zdr", "kdp")}
"""The variables of the dual-pol arm of each task."""


@dataclass
class StreamConfig:
    """How shards are streamed (`data.reader=stream`)."""

    lanes: int = setting(4, ALWAYS)
    """Shards read side by side over all processes; best a multiple of their number. The order depends on it."""
    shuffle_shards: int = setting(2, ALWAYS)
    """Whole shards that are held and shuffled together in each lane. The order depends on it."""
    retries: int = setting(4, NEVER)
    """Further attempts at a shard after the first; the pauses between them double from 0.5 s."""
    stall_seconds: float = setting(60.0, NEVER)
    """Seconds without a byte after which a stream is tried again."""


@dataclass
class DataConfig:
    """What the model sees."""

    shards: str = setting("shards", NEVER)
    """Folder of shards with its manifest.json, or a URL: https://host/shards, pipe:aws s3 cp s3://bucket/{name} -"""
    reader: str = setting("mapped", ALWAYS)
    """mapped: any window from a folder's files; stream: whole shards, from anywhere WebDataset can open."""
    stage_to: str | None = setting(None, NEVER)
    """Folder on a disk of the node to which the shards are copied once, such as /local/nvme."""
    verify: str = setting("sums", NEVER)
    """sums: SHA-256 of every shard before the first step, once until a file changes; sizes: only their sizes."""
    max_bad_share: float = setting(0.01, NEVER)
    """Share of the training windows that may lie in bad shards, which are left out and counted."""
    balance: float = setting(0.0, ALWAYS)
    """Share of the training draws that go by a window's heavy rain, 0 to 1. Evaluation never does."""
    workers: int = setting(2, NEVER)
    """Threads that read ahead; 0 reads when a step asks."""
    map_gib: float | None = setting(None, NEVER)
    """GiB of shards a process may hold mapped, a 16th of the memory by default; larger splits are read, not mapped."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    crop: int = 0
    """Side of the random patch that is cut out of each training sample, in pixels; 0: the whole field."""
    flip_rotate: bool = setting(False, was="turn")
    """Flip and rotate each training sample at random: one of the eight symmetries of a square."""
    concentration_jitter_db: float = setting(0.0, was="thicken_db")
    """Scale the drop concentration of each training sample at random, by up to this many dB: zh shifts, kdp and rain
    scale."""
    seen_frames: int = 10
    """Frames that a nowcast is made from."""
    lead_frames: int = 10
    """Frames that a nowcast is made of."""
    context: int = 0
    """Earlier frames that a model of rain rate also sees; where an event begins, its first frame in their place."""
    hold_out: float = 0.0
    """Share of the training events that is kept from this model, for one that builds on it."""
    only_held_out: bool = False
    """Train on those events, and on no others."""
    variables: list[str] | None = setting(None, ALWAYS)
    """Variables read, in place of the arm's own: any of zh, zdr, kdp."""
    heights_km: list[float] = setting(list(HEIGHTS_KM), ALWAYS)
    """Heights read, in km."""


@dataclass
class TrainConfig:
    """How it is trained. Cost grows with steps × global_batch, whatever the number of processes."""

    steps: int = setting(10_000, ALWAYS)
    """Optimizer steps."""
    global_batch: int = setting(32, ALWAYS)
    """Samples in one optimizer step, over all processes."""
    micro_batch: int | str = setting(32, NEVER)
    """Most samples a process computes at once, the rest is accumulated; auto: as many as memory holds."""
    learning_rate: float = setting(1e-3, ALWAYS)
    """Peak learning rate of AdamW."""
    warmup_steps: int = setting(100, ALWAYS)
    """Steps of linear warm-up; a cosine to zero follows."""
    weight_decay: float = setting(0.01, ALWAYS)
    """Decoupled weight decay of AdamW."""
    clip_norm: float = setting(1.0, ALWAYS)
    """Gradients are scaled down to this norm."""
    average_decay: float = setting(0.0, ALWAYS)
    """Decay of a running mean of the weights, such as 0.999; it is what is validated, kept and scored then. 0: none."""
    precision: str = setting("auto", ALWAYS)
    """bf16: the network computes in bfloat16, weights and moments stay fp32; fp32; auto: bf16 on GPUs."""
    engine: str = setting("deepspeed", NEVER)
    """deepspeed; ddp: torch's DistributedDataParallel, for comparison."""
    zero_stage: int = setting(0, NEVER)
    """What DeepSpeed's processes share: 1 the moments, 2 also gradients, 3 also weights. Slower; see estimate."""
    offload_optimizer: bool = setting(False, NEVER)
    """Keep the optimizer's state in the host's memory (stages 1 to 3)."""
    checkpoint_activations: bool = setting(False, NEVER)
    """Compute the blocks of a network twice, in place of keeping what is within them for the backward pass."""
    compile: bool = setting(False, NEVER)
    """Compile the network: a minute or more at the start, for faster steps on GPUs."""
    stop_seconds: float = setting(120.0, NEVER)
    """Seconds before the time limit of its Slurm job at which a run saves and goes back into the queue; 0: never."""
    heartbeat_seconds: float = setting(480.0, NEVER)
    """Seconds without progress after which a run on several processes ends, naming the one that stopped; 0: never."""
    explode: float = setting(1000.0, NEVER)
    """A loss this many times the median of the last hundred stops the run; 0: only one that is not finite does."""
    validate_every: int = setting(500, ALWAYS)
    """Steps between validations; each also writes a checkpoint."""
    validate_windows: int = 0
    """Windows that a validation scores, spread over the split; 0: all. Those that sample take seconds a window."""
    validate_scores: list[str] = setting([], NEVER)
    """Scores that each validation records of those windows, such as csi@threshold=35; they choose nothing."""
    checkpoint_every: int = setting(0, NEVER)
    """Steps between further checkpoints; 0: none."""
    keep_checkpoints: int = setting(2, NEVER)
    """Newest checkpoints that are kept, besides the best one."""
    log_every: int = setting(10, NEVER)
    """Steps between log records."""
    track: list[str] = setting([], NEVER)
    """Mirrors of the log, written with each validation: wandb (offline unless WANDB_MODE says so), tensorboard."""
    threads: int = setting(0, NEVER)
    """CPU threads of a process; 0 shares the cores among the local processes. The last digits depend on it."""


@dataclass
class EvaluateConfig:
    """How it is scored."""

    members: int = 1
    """Ensemble size asked of a generative model; others give one forecast."""


@dataclass
class RunConfig:
    """One training run."""

    task: str = setting("qpe", ALWAYS)
    """qpe: rain rate from the radar fields of the same time; nowcast: zh of the next hour from those of the last."""
    arm: str = setting("dualpol", ALWAYS)
    """radar (ZH alone) or dualpol (QPE: ZH and ZDR; nowcast: ZH, ZDR and KDP)."""
    match_params: bool = setting(True, ALWAYS)
    """Solve the channel widths so that both arms have the parameter count of the dual-pol arm within 1%."""
    seed: int = setting(0, ALWAYS)
    """Seed of initial weights and of the order of samples."""
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = setting({"name": "unet"}, ALWAYS)
    """`name`, and the fields of that model's own configuration."""
    base: Any = None
    """Folder of a trained run that the model builds on, for models that need one; a `BaseRun` once it is loaded."""
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def variables(self) -> tuple[str, ...]:
        """The variables this run reads."""
        return tuple(self.data.variables or self.arm_variables(self.arm))

    def arm_variables(self, arm: str) -> tuple[str, ...]:
        """The variables an arm reads unless `data.variables` says otherwise."""
        return ("zh",) if arm == "radar" else DUALPOL[self.task]

    @property
    def is_nowcast(self) -> bool:
        """Whether frames are forecast that come after those seen."""
        return self.task == "nowcast"

    @property
    def frames(self) -> int:
        """Frames a model sees."""
        return self.data.seen_frames if self.is_nowcast else 1 + self.data.context

    @property
    def lead_frames(self) -> int:
        """Frames it forecasts after them; 0 for an estimate."""
        return self.data.lead_frames if self.is_nowcast else 0

    def to_dict(self) -> dict[str, Any]:
        """As plain dictionaries and lists, to be written and hashed."""
        return asdict(self)


@dataclass
class BaseRun:
    """A trained run that another model builds on. Its configuration is stored with that model's."""

    run: str
    """Its folder."""
    config: RunConfig
    """Its configuration."""

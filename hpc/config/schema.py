"""What a run reads, how it is trained and how it is scored: the parts of its configuration."""

from dataclasses import asdict, dataclass, field
from typing import Any

from polarcast.data.archive import HEIGHTS_KM

DUALPOL = {"qpe": ("zh", "zdr"), "nowcast": ("zh", "zdr", "kdp")}
"""The variables of the dual-pol arm of each task."""


@dataclass
class StreamConfig:
    """How shards are streamed (`data.reader=stream`)."""

    lanes: int = 4
    """Shards read side by side over all processes; best a multiple of their number. The order depends on it."""
    shuffle_shards: int = 2
    """Whole shards that are held and shuffled together in each lane. The order depends on it."""
    retries: int = 4
    """Further attempts at a shard after the first; the pauses between them double from 0.5 s."""
    stall_seconds: float = 60.0
    """Seconds without a byte after which a stream is tried again."""


@dataclass
class DataConfig:
    """What the model sees."""

    shards: str = "shards"
    """Folder of shards with its manifest.json, or a URL: https://host/shards, pipe:aws s3 cp s3://bucket/{name} -"""
    reader: str = "mapped"
    """mapped: any window from a folder's files; stream: whole shards, from anywhere WebDataset can open."""
    stage_to: str | None = None
    """Folder on a disk of the node to which the shards are copied once, such as /local/nvme."""
    verify: str = "sums"
    """sums: SHA-256 of every shard before the first step, once until a file changes; sizes: only their sizes."""
    max_bad_share: float = 0.01
    """Share of the training windows that may lie in bad shards, which are left out and counted."""
    balance: float = 0.0
    """Share of the training draws that go by a window's heavy rain, 0 to 1. Evaluation never does."""
    workers: int = 2
    """Threads that read ahead; 0 reads when a step asks."""
    map_gib: float | None = None
    """GiB of shards a process may hold mapped, a 16th of the memory by default; larger splits are read, not mapped."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    crop: int = 0
    """Side of the random patch that is cut out of each training sample, in pixels; 0: the whole field."""
    turn: bool = False
    """Turn and mirror each training sample by chance."""
    thicken_db: float = 0.0
    """Multiply the drops of each training sample by up to so many dB more or less: zh shifts, kdp and rain scale."""
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
    variables: list[str] | None = None
    """Variables read, in place of the arm's own: any of zh, zdr, kdp."""
    heights_km: list[float] = field(default_factory=lambda: list(HEIGHTS_KM))
    """Heights read, in km."""


@dataclass
class TrainConfig:
    """How it is trained. Cost grows with steps × global_batch, whatever the number of processes."""

    steps: int = 10_000
    """Optimizer steps."""
    global_batch: int = 32
    """Samples in one optimizer step, over all processes."""
    micro_batch: int | str = 32
    """Most samples a process computes at once, the rest is accumulated; auto: as many as memory holds."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    warmup_steps: int = 100
    """Steps of linear warm-up; a cosine to zero follows."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    average_decay: float = 0.0
    """Decay of a running mean of the weights, such as 0.999; it is what is validated, kept and scored then. 0: none."""
    precision: str = "auto"
    """bf16: the network computes in bfloat16, weights and moments stay fp32; fp32; auto: bf16 on GPUs."""
    engine: str = "deepspeed"
    """deepspeed; ddp: torch's DistributedDataParallel, for comparison."""
    zero_stage: int = 0
    """What DeepSpeed's processes share: 1 the moments, 2 also gradients, 3 also weights. Slower; see estimate."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in the host's memory (stages 1 to 3)."""
    checkpoint_activations: bool = False
    """Compute the blocks of a network twice, in place of keeping what is within them for the backward pass."""
    compile: bool = False
    """Compile the network: a minute or more at the start, for faster steps on GPUs."""
    stop_seconds: float = 120.0
    """Seconds before the time limit of its Slurm job at which a run saves and goes back into the queue; 0: never."""
    heartbeat_seconds: float = 480.0
    """Seconds without progress after which a run on several processes ends, naming the one that stopped; 0: never."""
    explode: float = 1000.0
    """A loss this many times the median of the last hundred stops the run; 0: only one that is not finite does."""
    validate_every: int = 500
    """Steps between validations; each also writes a checkpoint."""
    validate_windows: int = 0
    """Windows that a validation scores, spread over the split; 0: all. Those that sample take seconds a window."""
    validate_scores: list[str] = field(default_factory=list)
    """Scores that each validation records of those windows, such as csi@threshold=35; they choose nothing."""
    checkpoint_every: int = 0
    """Steps between further checkpoints; 0: none."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept, besides the best one."""
    log_every: int = 10
    """Steps between log records."""
    track: list[str] = field(default_factory=list)
    """Mirrors of the log, written with each validation: wandb (offline unless WANDB_MODE says so), tensorboard."""
    threads: int = 0
    """CPU threads of a process; 0 shares the cores among the local processes. The last digits depend on it."""


@dataclass
class EvaluateConfig:
    """How it is scored."""

    members: int = 1
    """Ensemble size asked of a generative model; others give one forecast."""


@dataclass
class RunConfig:
    """One training run."""

    task: str = "qpe"
    """qpe: rain rate from the radar fields of the same time; nowcast: zh of the next hour from those of the last."""
    arm: str = "dualpol"
    """radar (ZH alone) or dualpol (QPE: ZH and ZDR; nowcast: ZH, ZDR and KDP)."""
    match_params: bool = True
    """Solve the channel widths so that both arms have the parameter count of the dual-pol arm within 1%."""
    seed: int = 0
    """Seed of initial weights and of the order of samples."""
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=lambda: {"name": "unet"})
    """`name`, and the fields of that model's own configuration."""
    base: Any = None
    """Folder of a trained run that the model builds on, for those that do."""
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

"""A run in Python: train it, open it, load its model, predict and evaluate with it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, float16

from polarcast.data.arguments import (
    different,
    flag,
    frame_range,
    optional_whole,
    path_of,
    path_text,
    real,
    text_of,
    whole,
)
from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput, shown
from polarcast.data.files import checked_output, read_json, sole_writer
from polarcast.data.folder_kind import checked_kind
from polarcast.hpc.config.resolve import input_spec, require_model
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, detect
from polarcast.hpc.evaluation.arguments import check_split
from polarcast.hpc.evaluation.run import TEST, evaluate_records
from polarcast.hpc.evaluation.shapley.background import MARGINAL
from polarcast.hpc.evaluation.shapley.explain import BACKGROUND, WINDOWS, ExplainSpec, explain_into
from polarcast.hpc.evaluation.shapley.result import Explanation
from polarcast.hpc.inference.predict import PredictOptions, forecast
from polarcast.hpc.inference.prediction import Prediction
from polarcast.hpc.leaderboard.external import ExternalModel, add_external
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.scores.event_scores import EventScores
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.training.train import train as train_run
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.hpc.zoo.net import open_net
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.registry import get_model

OnStep = Callable[[int, int, float], None]
_FLAG = re.compile(r"(?<![^\s(])--([a-z][\w-]*)")


class Run:
    """A run folder, opened: its configuration, log, provenance, model, forecasts and scores."""

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        """Open a folder; see `open_run`. Raises BadInput when it is not a run."""
        self._folder = RunFolder(path_of(path, "path"), flag(trust, "trust"))
        self.config: RunConfig = self._folder.config()
        """The configuration."""

    @classmethod
    def _of(cls, folder: RunFolder) -> "Run":
        """Return the run of an opened folder."""
        run = cls.__new__(cls)
        run._folder, run.config = folder, folder.config()
        return run

    def _check_writable(self) -> None:
        """Raise BadInput for a net of the zoo, whose folder stays as it was packed."""
        if self._folder.is_read_only:
            fix = "use predict or load_model; records are kept in folders of runs"
            raise BadInput("a net of the zoo keeps no records", self.path, fix)

    def __repr__(self) -> str:
        trained = "trained" if self.is_trained else "not fully trained"
        state = "made by other software" if _is_external(self.config) else trained
        return f"Run({str(self.path)!r}: {self.config.model['name']}, {self.config.arm}, {state})"

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def is_trained(self) -> bool:
        """Whether training reached its last step."""
        return self._folder.is_trained

    @property
    def log(self) -> list[dict[str, Any]]:
        """Records of the training log, oldest first: `event`, `step`, `time` in seconds since 1970, and more."""
        return list(self._folder.records())

    @property
    def provenance(self) -> dict[str, Any]:
        """Code, data, packages and machine that the run was made with; empty before its training starts."""
        return read_provenance(self._folder.provenance_file)

    @property
    def scores(self) -> EventScores:
        """Scores of the last evaluation on the test split. Raises BadInput when there was none."""
        return EventScores(read_records(self._folder.output.scores), _is_random(self.config))

    def load_model(self, device: str | None = None) -> Forecaster:
        """Return the trained model in evaluation mode, a `torch.nn.Module`.

        `model.forecast(batch, members=8, seed=0)` returns (b, m, t, y, x) rain rates in mm/h, or for a nowcast
        (b, m, t, z, y, x) zh in dBZ, of a `Batch` on the same device.

        Args:
            device: Where to, such as cpu or cuda:1; the GPU where there is one by default.

        Raises:
            BadInput: the run is not fully trained, or there is no such device. `forecast` raises it for a batch of
                other variables, heights or number of frames than the model reads.
        """
        place = None if device is None else _device(device)
        model = load_model(self._folder, World()).requires_grad_(False)
        model.forecast = _checked(model.forecast, input_spec(self.config, self.config.variables()))  # type: ignore[method-assign]
        return model if place is None else model.to(place)

    def predict(
        self,
        source: str | Path,
        *,
        event: int | None = None,
        members: int | None = None,
        seed: int = 0,
        frames: tuple[int | None, int | None] = (None, None),
        issued: int | None = None,
        size: int = 256,
    ) -> Prediction:
        """Forecast one event: what `polarcast predict` writes, as labelled arrays.

        Args:
            source: Folder of an event, archive, folder of shards, shard, radar volume, gridded sequence, or a folder of
                volumes or sequences.
            event: Number of the event, where the source has several.
            members: Ensemble size asked of a generative model; `evaluate.members` of the run by default.
            seed: Seed of the model's random numbers: the same seed gives the same forecast.
            frames: First frame and the one after the last of those that are estimated; all by default.
            issued: Last input frame of a nowcast; the newest by default.
            size: Pixels of 1 km a side that a radar volume is gridded to; the most of a gridded sequence.

        Raises:
            BadInput: the run is not trained, the event lacks these frames, or the source is unusable or lacks what the
                run reads.
        """
        path, frames = path_of(source, "source"), frame_range(frames, "frames")
        event, members = optional_whole(event, "event"), optional_whole(members, "members")
        seed, size, issued = whole(seed, "seed"), whole(size, "size"), optional_whole(issued, "issued")
        call = f"polarcast.Run.predict({path.name!r}, {event=}, {members=}, {seed=}, {frames=}, {issued=})"
        options = PredictOptions(event, members, seed, frames, issued, size, history=call)
        with _named_as_arguments():
            found = forecast(self._folder, path, options)
        end = frames[1]
        last = int(found["frame"][-1]) if end is not None else -1
        if end is not None and end > last + 1:
            raise BadInput(f"{end} is beyond the last frame, {last}", "frames", f"end at {last + 1} at most")
        return found

    def evaluate(self, split: str | None = None, archive: str | Path | None = None) -> EventScores:
        """Score the run and keep the records in its folder, as `polarcast evaluate` does.

        Args:
            split: Split of its own shards: train, validation or test; test by default.
            archive: Archive or folder of shards whose events are all scored instead of a split.

        Returns:
            The scores; any metric by name, such as `scores["csi@threshold=10"]`.

        Raises:
            BadInput: both split and archive are given, the run is not trained or has no model, its shards are not in a
                local folder and it is not trusted, or the data lack what it reads.
        """
        place = None if archive is None else path_of(archive, "archive")
        self._check_writable()
        require_model(self.config, self.path, "use run.scores")
        with _named_as_arguments(), ProgressBoard(Console(stderr=True, quiet=True)) as board:
            found = evaluate_records(self._folder, place, split, board, World())
        return EventScores(found.records, _is_random(self.config))

    def explain(
        self,
        *,
        seeds: "Sequence[Run]" = (),
        players: str | None = None,
        scores: Sequence[str] = (),
        windows: int = WINDOWS,
        background: int = BACKGROUND,
        imputation: str = MARGINAL,
        seed: int = 0,
        members: int | None = None,
        split: str | None = None,
        archive: str | Path | None = None,
        out: str | Path | None = None,
        long: bool = False,
    ) -> Explanation:
        """Compute exact Shapley values of forecasts and scores, and write them, as `polarcast explain` does.

        Args:
            seeds: Further runs, which differ from this one in their seed only; the intervals then hold for the model.
            players: Parts of the input: channels, variables, heights, times, or products such as variables*times=2.
            scores: Scores, such as `csi@threshold=35,lead_time=*`.
            windows: Number of windows to explain.
            background: Donors of absent players for each window, from other groups of events.
            imputation: marginal or conditional.
            seed: Seed of windows, donors and noise.
            members: Ensemble size; `evaluate.members` of the run by default.
            split: Split of its own shards; test by default.
            archive: Archive or folder of shards whose events are explained instead.
            out: Folder of the result; `explain/<players>-<imputation>` in the run's folder by default.
            long: Whether to start even if it would take more than a day.

        Returns:
            Values with intervals, such as `explanation["csi@threshold=10"].values`, and attributions of pixels.

        Raises:
            BadInput: a run is not trained or lacks the players, the runs differ in more than their seed, it would take
                more than a day, or an argument is out of range.
        """
        place, folder = (
            None if given is None else path_of(given, name) for given, name in ((archive, "archive"), (out, "out"))
        )
        windows, background, seed = whole(windows, "windows"), whole(background, "background"), whole(seed, "seed")
        if scores:
            different(scores, "scores")
        if folder is None:
            self._check_writable()
        with _named_as_arguments(), ProgressBoard(Console(stderr=True, quiet=True)) as board:
            check_split(split, place)
            spec = ExplainSpec(
                players, tuple(scores), windows, background, imputation, seed, optional_whole(members, "members"),
                split or TEST, flag(long, "long"),
            )  # fmt: skip
            found, _ = explain_into([self._folder, *_folders(seeds)], spec, board, folder, place)
        return found

    @property
    def card(self) -> dict[str, Any]:
        """Parameters, FLOPs, arm and events of the trained run."""
        return read_json(self.path / "card.json")


def _folders(runs: "Sequence[Run]") -> list[RunFolder]:
    """Return the folders of opened runs. Raises BadInput for anything else."""
    if not isinstance(runs, list | tuple) or not all(isinstance(run, Run) for run in runs):
        raise BadInput(f"expected a list of runs, got {shown(runs)}", "seeds", "give those of polarcast.open_run")
    return [run._folder for run in runs]


def _is_random(config: RunConfig) -> bool:
    """Return whether a run depends on its seed: its model is trained, or builds on one that is."""
    return config.base is not None or get_model(config.model["name"]).trained


def _is_external(config: RunConfig) -> bool:
    return get_model(config.model["name"]).external


def _device(name: Any) -> torch.device:
    """Return a device on which tensors can be made. Raises BadInput for anything else."""
    try:
        return torch.empty(0, device=torch.device(name)).device
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError):
        fix = "give cpu, or cuda or cuda:0 where there is a GPU"
        raise BadInput(f"no device {shown(name)} on this machine", "device", fix) from None


@contextmanager
def _named_as_arguments(**others: str) -> Iterator[None]:
    """Name arguments in errors as in Python, not as options of the command line: `members`, not `--members`.

    Args:
        others: Name of an option → that of the argument, where they differ.
    """

    def argument(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return others.get(name, name)

    try:
        yield
    except BadInput as error:
        raise BadInput(*(_FLAG.sub(argument, part) for part in (error.what, error.where, error.fix))) from None


def _checked(forecast: Callable[..., Tensor], inputs: InputSpec) -> Callable[..., Tensor]:
    """Refuse batches that hold other fields than the model was trained on: some nets would take them silently."""

    @wraps(forecast)
    def checked(batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        for name in ("variables", "heights_km"):
            found, expected = tuple(getattr(batch, name)), tuple(getattr(inputs, name))
            if found != expected:
                raise BadInput(f"the batch has {found}, the model reads {expected}", name, f"open shards with {name}=")
        if batch.radar.shape[1] != inputs.frames:
            fix = "open shards with frames= for a nowcast, or context= for an estimate"
            raise BadInput(f"the batch has {batch.radar.shape[1]} frames, the model reads {inputs.frames}", "t", fix)
        if batch.radar.dtype == float16:
            raise BadInput(
                "the batch is in half precision, as it is read", "dtype", "bring it to a device: batch.to(…)"
            )
        return forecast(batch, members, seed)

    return checked


def open_run(path: str | Path, trust: bool = False) -> Run:
    """Open a run folder, trained or not.

    Args:
        path: Folder of the run.
        trust: Whether you trust whoever made it: `evaluate` then reads its shards as its configuration says, even
            through a command or a URL.

    Raises:
        BadInput: the folder is not a run, or its configuration is damaged.
    """
    return Run(path, trust)


def open_zoo(net: str) -> Run:
    """Open a trained net of the zoo by its name, folder or URL, as a run that can predict.

    Its files are verified; one behind a URL is downloaded to the user's cache first. Nothing in it is run.

    Args:
        net: Name of a net that comes with polarcast, such as `nowcast-zh`; a folder, such as `./nets/mine`; or a URL,
            https://…, of a folder that `polarcast zoo add` has made.

    Raises:
        BadInput: there is no such net, it can't be downloaded, or a file is damaged.
    """
    return Run._of(open_net(text_of(net, "net", "nowcast-zh")))


def train(config: RunConfig, out: str | Path, on_step: OnStep | None = None) -> Run:
    """Train a run to its end, and return it; continue from the newest checkpoint where `out` holds one.

    In a process that torchrun or srun has started, this process is one rank of the run; all of them must call this.
    Torch's process group stays initialized, and torch's global random state is that of the last step.

    Args:
        config: What to train; see `load_config`.
        out: Folder of the run.
        on_step: Called on rank 0 with (steps done, steps in all, latest loss).

    Raises:
        BadInput: unusable data or configuration, or `out` holds another run, is in use by another process, or can't be
            written. A new folder is removed again if no step was made.
        WorkFailed: the loss is not finite, or has exploded.
        Stopped: a signal or the time limit has ended it early; what was done is saved.
    """
    if not isinstance(config, RunConfig):
        raise BadInput(f"expected a configuration, got {type(config).__name__}", "config", "use polarcast.load_config")
    if on_step is not None and not callable(on_step):
        raise BadInput(f"expected a function, got {shown(on_step)}", "on_step", "give one of (done, total, loss)")
    path = checked_output(checked_kind(path_of(out, "out"), "a run"), is_folder=True)
    world, folder = detect(), RunFolder(path, trust=True)
    with sole_writer(folder.path, world.is_first):
        train_run(config, folder, world, on_step)
    return Run(folder.path, trust=True)


def add_forecasts(
    out: str | Path,
    forecasts: str | Path | Mapping[str, Any],
    shards: str | Path,
    *,
    arm: str = "radar",
    label: str | None = None,
    heights_km: Sequence[float] | None = None,
    seen_frames: int | None = None,
) -> Run:
    """Score forecasts of other software, and make a run of them, as `polarcast leaderboard add` does.

    Its `scores` can be compared with those of other runs on the same shards, and leaderboards rank it. It has no model.

    Args:
        out: Folder of the run; it must be new or empty.
        forecasts: Forecasts of all test windows, an .npz file or arrays by name: `event` (n,), the event of each
            window, `frame` (n,), its first frame, and `forecast`, (n, m, y, x) in mm/h for rain, or (n, m, t, z, y, x)
            in dBZ for zh at t lead times and z heights.
        shards: Folder of the shards.
        arm: What the model read: radar (ZH) or dualpol.
        label: What the model is called.
        heights_km: Heights of a nowcast along z; all of the shards by default.
        seen_frames: Input frames of a nowcast, after which its forecast begins; must be given.

    Returns:
        The run, with its scores.

    Raises:
        BadInput: the folder is not new; shapes, windows or lead times do not fit the shards; or a value at an observed
            pixel is not finite.
    """
    folder, location = path_of(out, "out"), path_text(shards, "shards")
    source = forecasts if isinstance(forecasts, Mapping) else path_of(forecasts, "forecasts")
    if heights_km is not None:
        different(heights_km, "heights_km")
    model = ExternalModel(
        text_of(arm, "arm", "dualpol"),
        None if label is None else text_of(label, "label", "our CNN"),
        None if heights_km is None else tuple(real(height, "heights_km") for height in heights_km),
        None if seen_frames is None else whole(seen_frames, "seen_frames", 1),
    )
    with _named_as_arguments(heights="heights_km"):
        add_external(folder, source, location, model)
    return Run(folder, trust=True)

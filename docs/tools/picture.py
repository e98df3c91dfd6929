"""Draw the nowcast of the front page: `python -m docs.tools.picture docs/images` writes nowcast.gif and nowcast.png.

A small FURENet on top of extrapolation is trained on synthetic storms, in six minutes of a CPU core. The picture shows
a storm of another archive: of those with strong echo, the one whose forecast has the median CSI of 35 dBZ.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader

import polarcast as pc
from polarcast.data.files import write_bytes

HEIGHT_KM = 3.0
SCORE = "csi@threshold=35"
STRONG_PIXELS = 256
"""Least number of pixels of 35 dBZ in the hour to forecast, so that the score of a storm means something."""
_TRAINING = ("--events", "160", "--frames", "21", "--size", "96", "--preset", "tiny", "--seed", "5")
_TESTING = ("--events", "40", "--frames", "20", "--size", "112", "--preset", "tiny", "--seed", "6")
_COMMON = ("task=nowcast", f"data.heights_km=[{HEIGHT_KM}]", "train.threads=1")
_NETWORK = (
    "arm=dualpol", "model.name=furenet_advected", "model.carry=all", "model.widths=[16,32,48,64]", "model.squeeze=12",
    "model.scaling=standard", "model.loss=balanced", "data.flip_rotate=true", "data.crop=64", "train.steps=900",
    "train.validate_every=300", "train.validate_windows=36", "train.learning_rate=2e-3", "train.clip_norm=0.05",
    "train.average_decay=0.99", "train.precision=fp32",
)  # fmt: skip
_EXTRAPOLATION = ("arm=radar", "model.name=extrapolation")

_DBZ = tuple(range(15, 75, 5))
_DBZ_COLORS = (
    "#0300f4", "#02fd02", "#01c501", "#008e00", "#fdf802", "#e5bc00", "#fd9500", "#fd0000",
    "#d40000", "#bc0000", "#f800fd",
)  # fmt: skip
"""Reflectivity in steps of 5 dBZ, as the National Weather Service shows it; weaker echo is left out."""
_CARD, _DRY, _UNSEEN, _TEXT, _QUIET = "#161b22", "#0b0f14", "#30363d", "#f0f3f6", "#9ea7b3"
_PIXELS_PER_KM, _GAP, _TOP, _BOTTOM, _BAR = 2, 12, 62, 34, 64
_STILL_SCALE = 2
_SHOWN_MS, _FIRST_MS, _LAST_MS = 450, 1000, 1800
_STILL_MINUTES = 30

Fields = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Film:
    """Fields of one storm by panel, from the last input frame to the end of the hour."""

    event: int
    minutes: Sequence[int]
    panels: dict[str, Fields]
    """ZH in dBZ, (frames, y, x), by title."""
    observed: npt.NDArray[np.bool_]
    """(frames, y, x)."""

    @property
    def side(self) -> int:
        """Pixels per side."""
        return self.observed.shape[-1]


def train(folder: Path) -> tuple[pc.Run, pc.Run]:
    """Make storms and shards in a folder, and train on them; return the network and the extrapolation."""
    _make(folder / "training", _TRAINING, "0.88/0.1/0.02")
    _make(folder / "testing", _TESTING, "all-test")
    runs = []
    for name, keys in (("network", _NETWORK), ("extrapolation", _EXTRAPOLATION)):
        config = pc.load_config("demo", [*_COMMON, *keys, f"data.shards={folder / 'training' / 'shards'}"])
        runs.append(pc.train(config, folder / name, _report))
    return runs[0], runs[1]


def _make(folder: Path, archive: Sequence[str], split: str) -> None:
    """Make an archive and shards of it, or complete them."""
    command = [sys.executable, "-m", "polarcast.hpc.cli", "data"]
    storms, shards = str(folder / "storms"), str(folder / "shards")
    subprocess.run([*command, "synth", storms, *archive], check=True)
    if not (folder / "shards").is_dir():
        words = ["--split", split, "--heights", str(HEIGHT_KM)]
        subprocess.run([*command, "shard", storms, shards, *words], check=True)


def _report(done: int, total: int, loss: float) -> None:
    if done % 100 == 0:
        print(f"step {done} of {total}, loss {loss:.4f}", flush=True)


def film(network: pc.Run, extrapolation: pc.Run, shards: Path) -> Film:
    """Choose the storm, and forecast it."""
    variables = network.config.variables()
    settings = network.config.data
    windows = partial(
        pc.open_shards, shards, "test", heights_km=[HEIGHT_KM], frames=settings.seen_frames,
        lead_frames=settings.lead_frames, observed=True,
    )  # fmt: skip
    data = windows(variables=variables)
    event = median_event(network.evaluate(archive=shards), data)
    [first] = np.flatnonzero(data.events.numpy() == event)[:1]
    batch = next(iter(DataLoader(data, 1, sampler=[int(first)], collate_fn=data.collate))).to("cpu")
    now, later = batch.last_zh[:, None], batch.required_target_zh
    forecast = network.load_model("cpu").forecast(batch)[:, 0]
    alone = windows(variables=["zh"])[int(first)].to("cpu")
    advected = extrapolation.load_model("cpu").forecast(alone)[:, 0]
    panels = {"observed": later, "extrapolation": advected, "network, dual-pol": forecast}
    seen = np.ones((1 + later.shape[1], *later.shape[-2:]), bool)
    if batch.observed is not None:
        seen = np.concatenate([batch.last_observed[0, :1].numpy(), batch.observed[0, :, 0].numpy()])
    minutes = [round(step * data.manifest.time_step_minutes) for step in range(len(seen))]
    drawn = {name: np.concatenate([now[0, :, 0].numpy(), field[0, :, 0].numpy()]) for name, field in panels.items()}
    return Film(event, minutes, drawn, seen)


def median_event(scores: pc.EventScores, data: Any) -> int:
    """Return the test event with the median score, of those with strong echo in the hour to forecast."""
    batch = next(iter(DataLoader(data, len(data), collate_fn=data.collate)))
    strong = (batch.required_target_zh >= 35).flatten(1).sum(1)
    enough = set(batch.event[strong >= STRONG_PIXELS].tolist())
    rated = sorted((value, int(event)) for value, event in zip(scores.by_event(SCORE), scores.events, strict=True))
    rated = [pair for pair in rated if pair[1] in enough and np.isfinite(pair[0])]
    print(f"{len(rated)} test storms with strong echo; {SCORE} from {rated[0][0]:.2f} to {rated[-1][0]:.2f}")
    value, event = rated[len(rated) // 2]
    print(f"shown: event {event} with {value:.2f}")
    return event


def draw(film: Film, frame: int, scale: int = 1) -> Any:
    """Draw one moment as an image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    side = film.side * _PIXELS_PER_KM
    width, height = len(film.panels) * (side + _GAP) + _GAP + _BAR, _TOP + side + _BOTTOM
    figure = Figure(figsize=(width / 100, height / 100), dpi=100 * scale, facecolor=_CARD)
    for number, (title, fields) in enumerate(film.panels.items()):
        left = _GAP + number * (side + _GAP)
        axis = figure.add_axes((left / width, _BOTTOM / height, side / width, side / height))
        image = _draw_field(axis, fields[frame], film.observed[frame])
        figure.text(left / width, 1 - 50 / height, title, color=_TEXT, size=8.5, weight="bold")
    lead = "now" if frame == 0 else f"+{film.minutes[frame]} min"
    figure.text(_GAP / width, 1 - 23 / height, f"Radar echo in the next hour: {lead}", color=_TEXT, size=10.5)
    _draw_bar(figure, image, (width - _BAR - 2) / width, width, height, side)
    _draw_time(figure, film, frame, width, height)
    what = f"Reflectivity of {_DBZ[0]} dBZ and more at {HEIGHT_KM:g} km; {film.side} km wide."
    note = f"{what} A synthetic storm that the network was not trained on."
    figure.text(_GAP / width, 11 / height, note, color=_QUIET, size=6.8)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return Image.open(content).convert("RGB")


def _draw_field(axis: Any, field: Fields, observed: npt.NDArray[np.bool_]) -> Any:
    from matplotlib.colors import BoundaryNorm, ListedColormap

    colors = ListedColormap(_DBZ_COLORS)
    axis.set(xticks=[], yticks=[], facecolor=_DRY)
    for edge in axis.spines.values():
        edge.set_visible(False)
    axis.imshow(np.ma.masked_where(observed, observed), cmap=ListedColormap([_UNSEEN]), interpolation="nearest")
    echo = np.ma.masked_where((field < _DBZ[0]) | ~observed, field)
    return axis.imshow(echo, cmap=colors, norm=BoundaryNorm(_DBZ, colors.N), interpolation="nearest")


def _draw_bar(figure: Any, image: Any, left: float, width: int, height: int, side: int) -> None:
    axis = figure.add_axes((left, _BOTTOM / height, 12 / width, side / height))
    bar = figure.colorbar(image, cax=axis, ticks=_DBZ[1::2])
    bar.outline.set_visible(False)
    axis.tick_params(labelsize=7, colors=_TEXT, length=0)
    figure.text(left, 1 - 50 / height, "dBZ", color=_TEXT, size=7.5)


def _draw_time(figure: Any, film: Film, frame: int, width: int, height: int) -> None:
    """Draw how much of the hour has passed."""
    from matplotlib.patches import Rectangle

    whole = width - _BAR - _GAP - 2 * _GAP + _GAP
    share = film.minutes[frame] / film.minutes[-1]
    for length, color in ((1.0, _UNSEEN), (share, "#58a6ff")):
        size = (whole * length / width, 3 / height)
        figure.add_artist(Rectangle((_GAP / width, (_BOTTOM - 8) / height), *size, color=color, linewidth=0))


def write(film: Film, folder: Path) -> None:
    """Write the animation, and its middle as a still picture of twice the size."""
    from PIL import Image

    images = [draw(film, frame) for frame in range(len(film.minutes))]
    joined = Image.new("RGB", (images[0].width, images[0].height * len(images)))
    for number, image in enumerate(images):
        joined.paste(image, (0, number * image.height))
    palette = joined.quantize(128, dither=Image.Dither.NONE)
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    times = [_FIRST_MS, *[_SHOWN_MS] * (len(frames) - 2), _LAST_MS]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "nowcast.gif", content.getvalue())
    still = io.BytesIO()
    draw(film, film.minutes.index(_STILL_MINUTES), _STILL_SCALE).save(still, "PNG", optimize=True)
    write_bytes(folder / "nowcast.png", still.getvalue())


def main() -> None:
    """Train, choose and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="Folder of the pictures.")
    parser.add_argument("--work", type=Path, help="Folder of storms and runs, to keep or resume; temporary by default.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        network, extrapolation = train(folder)
        write(film(network, extrapolation, folder / "testing" / "shards"), given.out)


if __name__ == "__main__":
    main()

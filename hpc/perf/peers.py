"""Run litdata and MosaicML Streaming on the same frames, in their own environment and process.

They require other versions of numpy than polarcast, so this file imports nothing of polarcast and is run by its path.
Each line on standard input names a contender, which delivers its batches once; the reply is `done`.
"""

import importlib.machinery
import json
import sys
import types
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

WORKERS = (0, 1, 2, 4)
NAMES = ("litdata", "mosaicml-streaming")
_CHUNK_BYTES = 64_000_000


def contenders(folder: Path, spec: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Write the data and return all contenders by name. Batches are consecutive frames; shuffling would be slower."""
    import numpy as np

    frames = np.load(folder / "frames.npy")
    batch = spec["batch"] * spec["frames"]
    made: dict[str, Callable[[], None]] = {}
    for name, write, loader in (("litdata", _write_litdata, _litdata), ("mosaicml-streaming", _write_mds, _mds)):
        write(folder, frames)
        for workers in WORKERS:
            made[f"{name}, {workers} workers"] = _deliver(loader(folder, batch, workers), spec)
    return made


def read_frame(index: int) -> dict[str, Any]:
    """Return one frame of the parent's file; at the top level, because litdata calls it in its own processes."""
    import numpy as np

    return {"radar": np.load(_FRAMES, mmap_mode="r")[index].copy()}


_FRAMES = Path(sys.argv[1] if len(sys.argv) > 1 else ".") / "frames.npy"


def _deliver(loader: Any, spec: dict[str, Any]) -> Callable[[], None]:
    batches = _repeated(loader)
    shape = (spec["batch"], spec["frames"])

    def run() -> None:
        for batch in islice(batches, spec["batches"]):
            radar = batch["radar"]
            assert radar.shape[0] == shape[0] * shape[1], radar.shape
            radar.view(*shape, *radar.shape[1:])

    return run


def _repeated(loader: Any) -> Iterator[Any]:
    while True:
        for batch in loader:
            if batch["radar"].shape[0] == loader.batch_size:
                yield batch


def _write_litdata(folder: Path, frames: Any) -> None:
    import litdata

    litdata.optimize(
        fn=read_frame, inputs=list(range(len(frames))), output_dir=str(folder / "litdata"), num_workers=1,
        chunk_bytes=_CHUNK_BYTES,
    )  # fmt: skip


def _litdata(folder: Path, batch: int, workers: int) -> Any:
    import litdata

    data = litdata.StreamingDataset(str(folder / "litdata"), shuffle=False, drop_last=True)
    ahead = {"prefetch_factor": 1, "persistent_workers": True} if workers else {}
    return litdata.StreamingDataLoader(data, batch_size=batch, num_workers=workers, **ahead)


def _write_mds(folder: Path, frames: Any) -> None:
    from streaming import MDSWriter

    column = "ndarray:float16:" + ",".join(map(str, frames.shape[1:]))
    with MDSWriter(out=str(folder / "mds"), columns={"radar": column}, size_limit=_CHUNK_BYTES) as out:
        for frame in frames:
            out.write({"radar": frame})


def _mds(folder: Path, batch: int, workers: int) -> Any:
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    data = StreamingDataset(local=str(folder / "mds"), shuffle=False, batch_size=batch)
    ahead: dict[str, Any] = {"prefetch_factor": 1, "persistent_workers": True} if workers else {}
    return DataLoader(data, batch_size=batch, num_workers=workers, drop_last=True, **ahead)


def _without_torchvision() -> None:
    """Replace torchvision, which both import for image data sets only and which requires its own torch version."""
    import torch  # noqa: F401 — first, because it inspects all loaded modules

    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        module = types.ModuleType(name)
        module.__getattr__ = _any_class  # type: ignore[method-assign]
        module.__path__, module.__spec__ = [], importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module


def _any_class(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def main() -> None:
    """Reply line by line. Output of the libraries goes to standard error, so that it is not mistaken for a reply."""
    replies, sys.stdout = sys.stdout, sys.stderr
    made = contenders(Path(sys.argv[1]), json.loads(sys.argv[2]))
    print(json.dumps(list(made)), file=replies, flush=True)
    for line in sys.stdin:
        made[line.strip()]()
        print("done", file=replies, flush=True)


if __name__ in ("__main__", "__mp_main__"):  # also in their worker processes
    _without_torchvision()
if __name__ == "__main__":
    main()

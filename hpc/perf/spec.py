"""Settings of the loader benchmark."""

from dataclasses import dataclass

VARIABLES = ("zh", "zdr", "kdp")


@dataclass(frozen=True)
class LoaderSpec:
    """Sizes of the loader benchmark: windows of `frames` frames of `size`² pixels, `batch` of them at a time."""

    events: int = 32
    frames_per_event: int = 40
    size: int = 256
    frames: int = 20
    batch: int = 8
    batches: int = 8
    """Batches in a round."""
    rest_seconds: float = 1.5
    """Pause after each contender's turn."""
    least_seconds: float = 0.5
    """Shortest turn."""

    @property
    def batch_bytes(self) -> int:
        """Bytes of the radar fields of one batch, float16."""
        return 2 * self.batch * self.frames * len(VARIABLES) * self.size**2

"""Stand-in for CUDA graphs on a CPU: a replay calls the recorded function again, into the same result."""

from collections.abc import Callable

from torch import Tensor

from polarcast.hpc.training.graphs import Recorded


class CallingRecorder:
    """Recorder that keeps the functions themselves; implements `Recorder`."""

    def warm_up(self, function: Callable[[], object]) -> None:
        """See Recorder."""
        function()

    def record(self, function: Callable[[], Tensor]) -> Recorded:
        """See Recorder."""
        result = function().clone()

        def replay() -> None:
            result.copy_(function())

        return Recorded(replay, result)


class FailingRecorder(CallingRecorder):
    """Recorder that fails after the function has changed the weights, as one that runs out of memory."""

    def record(self, function: Callable[[], Tensor]) -> Recorded:
        """See Recorder."""
        function()
        raise RuntimeError("operation not permitted when stream is capturing\nand more lines")

"""Exit codes of the command line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

OK, FAILED, BAD_INPUT, INTERRUPTED, ENDED_EARLY = 0, 1, 2, 130, 143

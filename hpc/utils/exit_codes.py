"""Exit codes of the command line."""

OK, FAILED, BAD_INPUT, INTERRUPTED, ENDED_EARLY = 0, 1, 2, 130, 143

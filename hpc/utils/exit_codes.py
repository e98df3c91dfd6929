"""Exit codes of the command line."""

OK = 0
"""Success."""
FAILED = 1
"""The work failed, or a check found faults; the last line on standard error says why."""
BAD_INPUT = 2
"""Wrong input: an option, a file, a configuration or the data; the line says what, where, and what to do."""
INTERRUPTED = 130
"""Interrupted (Ctrl-C); run the same command to continue."""
ENDED_EARLY = 143
"""Ended early by a signal or a time limit, with the state saved; run the same command to continue."""

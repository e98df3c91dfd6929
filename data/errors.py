"""Exceptions that the command line reports in one line: invalid input, or a failure with a known cause."""


class BadInput(Exception):
    """Invalid input, reported in one line: what is wrong, where, and how to fix it.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, what: str, where: object = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, str(where), fix
        super().__init__(what, self.where, fix)

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        return " — ".join([*parts, self.fix] if self.fix else parts)


class WorkFailed(Exception):
    """Failure with a known cause, reported in one line; the command line exits with code 1.

    Any other exception is a bug and keeps its traceback.
    """


class Stopped(Exception):
    """Early stop on request, after saving the state; the command line exits with code 143."""

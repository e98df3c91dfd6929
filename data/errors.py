"""Exceptions that are told in one line: the input is at fault, or the work failed for a known reason."""


class BadInput(Exception):
    """Input that can't be used, told in one line: what is wrong, where, and what to do about it.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, what: str, where: object = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, str(where), fix
        super().__init__(what, self.where, fix)

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        return " — ".join([*parts, self.fix] if self.fix else parts)


class WorkFailed(Exception):
    """Work that failed for a reason told in one line; the command line exits with code 1.

    Any other exception is a defect of the program and keeps its traceback.
    """


class Stopped(Exception):
    """Work that was asked to stop early, and has saved what it had; the command line exits with code 143."""

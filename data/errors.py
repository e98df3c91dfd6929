"""The one exception that means: the input is at fault, not the program."""


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

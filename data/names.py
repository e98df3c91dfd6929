"""Rules for names that become paths: of shards, tables, models, suites and runs."""

from polarcast.data.errors import BadInput

MAX_BYTES = 200
"""Longest name; file systems allow 255 bytes, of which prefixes and suffixes need some."""


def problem_of_name(name: object) -> str:
    """Return why a name can't be that of a file inside a folder; empty if it can.

    A name is text of at most `MAX_BYTES` bytes, without separators of paths or control characters, and does not start
    with a dot or a dash, or start or end with a space.
    """
    if not isinstance(name, str):
        return f"must be text, got {type(name).__name__}"
    if not name:
        return "is empty"
    if len(name.encode(errors="surrogateescape")) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    if name[0] in ".-" or name != name.strip():
        return "must not start with a dot or a dash, or start or end with a space"
    if "/" in name or "\\" in name or not name.isprintable():
        return "must not hold / or \\, or characters that are not printed"
    return ""


def checked_name(name: object, where: object) -> str:
    """Return a name that is safe as part of a path. Raises BadInput otherwise; see `problem_of_name`."""
    if problem := problem_of_name(name):
        raise BadInput(f"{name!r}: a name {problem}", where, "use letters, digits, - and _")
    return str(name)

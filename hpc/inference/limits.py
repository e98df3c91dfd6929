"""Ranges of the numbers that a forecast takes."""

from polarcast.data.errors import BadInput

_LIMITS = {"members": (1, 10_000_000), "seed": (0, 2**31 - 1), "size": (1, 8192)}


def check_numbers(**numbers: int | None) -> None:
    """Raise BadInput if the number of members, the seed, or the pixels per side are out of range; None is not checked.

    Args:
        numbers: Name of the option → value.
    """
    for name, value in numbers.items():
        low, high = _LIMITS[name]
        if value is not None and not low <= value <= high:
            size = "small" if value < low else "large"
            raise BadInput(f"{value} is too {size}", f"--{name}", f"give {low} to {high}")

"""Ranges of settings that volumes and gridded sequences share, checked before any file is read."""

from polarcast.data.errors import BadInput

STEP_MINUTES = (0.1, 1440.0)
GAP_MINUTES = (0.1, 100_000.0)
PIXELS = (8, 4096)
SPACING_KM = (0.01, 100.0)
DBZ = (-60.0, 100.0)
HIGHEST_KM = 30.0


def check_range(name: str, value: float | None, least: float, most: float) -> None:
    """Raise BadInput if a number is not from `least` to `most`; None is accepted."""
    if value is not None and not least <= value <= most:
        raise BadInput(f"{name} = {value}", fix=f"give a value from {least:g} to {most:g}")


def check_height(height_km: float) -> None:
    """Raise BadInput for a height that is no level of an archive: whole metres, named in plain decimals."""
    if not 0 <= height_km <= HIGHEST_KM or round(height_km, 3) != height_km:
        raise BadInput(f"height {height_km} km", fix=f"give whole metres from 0 to {HIGHEST_KM:g} km, such as 1 or 0.5")

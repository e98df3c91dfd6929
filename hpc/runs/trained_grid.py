"""The grid of a run's training data, and how other data differ from it."""

from polarcast.data.archive import SPACING_KM, TIME_STEP_MINUTES
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs import provenance
from polarcast.hpc.runs.folder import RunFolder


def unlike_training(run: RunFolder, config: RunConfig, manifest: Manifest) -> list[str]:
    """Return warnings if a grid differs from the recorded grid of the training data."""
    (spacing, step), lines = trained_grid(run), []
    if spacing is None or step is None:
        return []
    if manifest.spacing_km != spacing:
        lines.append(f"pixel spacing is {manifest.spacing_km:g} km; the run was trained on {spacing:g} km")
    if (config.data.context or config.is_nowcast) and manifest.time_step_minutes != step:
        lines.append(f"time between frames is {manifest.time_step_minutes:g} min; the run was trained on {step:g} min")
    return lines


def trained_grid(run: RunFolder) -> tuple[float, float] | tuple[None, None]:
    """Return pixel spacing in km and time step in minutes of the training data; None if they are unknown."""
    trained = provenance.read_provenance(run.provenance_file).get("data", {}).get("archive")
    if not isinstance(trained, dict) or not trained or "adopted" in trained:
        return None, None
    found = trained.get("spacing_km", SPACING_KM), trained.get("time_step_min", TIME_STEP_MINUTES)
    are_numbers = all(type(number) in (int, float) and number > 0 for number in found)
    return found if are_numbers else (None, None)

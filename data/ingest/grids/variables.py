"""Choose the variables of a NetCDF file or Zarr folder: by option, axes, units and names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.axes import dims_of
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.units import is_known_name, is_quantity, is_rain_name
from polarcast.data.ingest.volumes.volume import NAMES

_BY_TEXT = {
    "zh": ("reflectivity",),
    "zdr": ("differential reflectivity", "differential_reflectivity"),
    "kdp": ("specific differential phase", "specific_differential_phase"),
}
"""Parts of the standard name or long name of variables whose names are not in `NAMES`."""
_NOT_ZH = ("differential", "texture", "error", "quality", "height", "vertical")
RADAR = ("zh", "zdr", "kdp")
_SHOWN = 6
"""Variables that a message names at most."""


Chosen = tuple[dict[str, str], tuple[str, ...]]


def choose_variables(content: Any, settings: GridSettings, path: Path) -> Chosen:
    """Return the name in the file by variable, and why others are not taken.

    The key is empty for a variable that is zh or rain by its units. A file with zh and at least one of zdr and kdp
    gives those of `settings.variables`. Otherwise one is chosen.

    Raises:
        BadInput: There is no variable with the axes of a sequence, there are several, or a given name is absent. Also
            if a variable that was asked for is on another grid than zh.
    """
    given = dict(settings.names)
    for name in (*filter(None, [settings.variable]), *given.values()):
        if name not in content.data_vars:
            raise BadInput(f"no variable {name!r}", path, f"choose from: {', '.join(map(str, content.data_vars))}")
    if settings.variable:
        return {"": settings.variable, **given}, ()
    found, refusals = _sequences(content, path)
    radar = {**_polarimetric(content, found), **given}
    if ("zh" in radar and len(radar) > 1) or given:
        wanted = {name: radar[name] for name in radar if name in (*settings.variables, *given)}
        asked = (*given, *(settings.variables if settings.variables != RADAR else ()))
        chosen, told = _with_zh(wanted, content, asked, path)
        return chosen, (*told, *_unusable(content, chosen, refusals, asked, path))
    chosen = {"": _only_candidate(content, found, refusals, path)}
    return chosen, _unusable(content, radar, refusals, (), path) if "zh" in radar else ()


def names_of(array: Any) -> tuple[str, str]:
    """Return the name and the standard name of a variable."""
    return str(array.name), str(array.attrs.get("standard_name", ""))


def _sequences(content: Any, path: Path) -> tuple[list[str], list[BadInput]]:
    """Return the variables with axes of time and space, and why others with three axes or more are none."""
    found, refusals = [], []
    for name, array in content.data_vars.items():
        if array.dtype.kind not in "iuf" or sum(array.sizes[d] > 1 for d in array.dims) < 2:
            continue
        try:
            dims_of(content, array, path)
            found.append(str(name))
        except BadInput as error:
            refusals.append(error)
    return [n for n in found if not _is_place(content[n])], refusals


def _is_place(array: Any) -> bool:
    text = " ".join((*names_of(array), str(array.attrs.get("units", "")))).lower()
    return any(word in text for word in ("latitude", "longitude", "degrees_", "degree_", "altitude"))


def _polarimetric(content: Any, available: list[str]) -> dict[str, str]:
    """Return zh, zdr and kdp among some variables, by `NAMES`, then by standard and long names."""
    lower = {name.lower(): name for name in available}
    found: dict[str, str] = {}
    for variable in RADAR:
        named = [lower[n.lower()] for n in NAMES[variable] if n.lower() in lower]
        described = [n for n in available if _describes(variable, content[n].attrs)]
        if named or len(described) == 1:
            found[variable] = (named or described)[0]
    return found


def _describes(variable: str, attributes: Mapping[str, Any]) -> bool:
    text = f"{attributes.get('standard_name', '')} {attributes.get('long_name', '')}".lower()
    is_other = variable == "zh" and any(word in text for word in _NOT_ZH)
    return not is_other and any(part in text for part in _BY_TEXT[variable])


def _with_zh(radar: dict[str, str], content: Any, asked: Sequence[str], path: Path) -> Chosen:
    """Return the variables that have the axes of zh, and what is said of others; rain may have axes of its own."""
    if "zh" not in radar:
        raise BadInput("no reflectivity", path, "name it: --variable zh=NAME")
    main = content[radar["zh"]]
    order = [name for name in (*RADAR, "rain_rate") if name in radar]
    others = [v for v in order if v != "rain_rate" and set(content[radar[v]].dims) != set(main.dims)]
    reasons = {
        v: f"{v} is on another grid than zh: {_axes_of(content[radar[v]])}, not {_axes_of(main)}" for v in others
    }
    if refused := [v for v in others if v in asked]:
        rest = ",".join(v for v in order if v not in others)
        raise BadInput(reasons[refused[0]], path, f"put both on one grid, or leave it out: --variables {rest}")
    return {v: radar[v] for v in order if v not in others}, tuple(reasons.values())


def _unusable(
    content: Any, radar: dict[str, str], refusals: list[BadInput], asked: Sequence[str], path: Path
) -> tuple[str, ...]:
    """Return why ZDR or KDP that a file has by name is not taken: it has no axes of time and space.

    Raises:
        BadInput: It was asked for.
    """
    absent = {v: n for v, n in _polarimetric(content, list(map(str, content.data_vars))).items() if v not in radar}
    told: dict[str, str] = {}
    for variable, name in absent.items():
        reasons = [error.what for error in refusals if error.what.startswith(f"{name} ")]
        if variable != "zh" and content[name].ndim > 1 and reasons:
            told[variable] = reasons[0]
    if refused := [variable for variable in told if variable in asked]:
        raise BadInput(f"{refused[0]} can't be used: {told[refused[0]]}", path, "leave it out with --variables")
    return tuple(f"{variable} is not taken: {what}" for variable, what in told.items())


def _axes_of(array: Any) -> str:
    return "(" + ", ".join(f"{d} {array.sizes[d]}" for d in array.dims) + ")"


def _only_candidate(content: Any, sequences: list[str], refusals: list[BadInput], path: Path) -> str:
    """Return the only candidate variable, selected by axes, then by units, then by names."""
    fitting = [n for n in sequences if _has_fitting_units(content[n])] or sequences
    if not fitting:
        raise _no_candidate(content, refusals, path)
    named = [n for n in fitting if is_known_name(*names_of(content[n]))]
    fitting = named if len(named) == 1 else fitting
    if len(fitting) > 1:
        raise BadInput(f"several candidate variables: {', '.join(fitting)}", path, "choose one with --variable")
    return fitting[0]


def _no_candidate(content: Any, refusals: list[BadInput], path: Path) -> BadInput:
    """Return why a file has no sequence: what is wrong with its likeliest variable, else what it has."""
    if forecasts := [error for error in refusals if "forecast" in error.what]:
        return forecasts[0]
    wide = [str(n) for n, a in content.data_vars.items() if a.dtype.kind in "iuf" and a.ndim > 1]
    likely = [n for n in wide if _has_fitting_units(content[n]) or is_known_name(*names_of(content[n]))]
    for name in likely:
        if told := [error for error in refusals if error.what.startswith(f"{name} ")]:
            return told[0]
    shown_ones = ", ".join(f"{n} {_axes_of(a)}" for n, a in list(content.data_vars.items())[:_SHOWN]) or "none"
    more = f" and {len(content.data_vars) - _SHOWN} more" if len(content.data_vars) > _SHOWN else ""
    what = f"no reflectivity or rain of (time, y, x): it has {shown_ones}{more}"
    return BadInput(what, path, "give a gridded sequence, or radar volumes in a known format")


def _has_fitting_units(array: Any) -> bool:
    return is_quantity(str(array.attrs.get("units", "")), named_rain=is_rain_name(*names_of(array)))

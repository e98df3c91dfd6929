"""YAML files that are given by the name of a built-in one, or by path."""

from pathlib import Path

from polarcast.data.errors import BadInput, as_one_line, nearest

_PACKAGE = Path(__file__).parents[2]
PRESETS = _PACKAGE / "hpc" / "config" / "presets"
SUITES = _PACKAGE / "hpc" / "bench" / "suites"
SPACES = _PACKAGE / "sweeps"


def yaml_source(source: str, built_in: Path, what: str) -> Path:
    """Return the file of a suite or space.

    Args:
        source: Name of a built-in file, or path of a YAML file.
        built_in: Folder of the built-in files.
        what: Kind of the file, for the message.

    Raises:
        BadInput: no such file; the message lists the built-in ones.
    """
    path = Path(source) if Path(source).suffix in (".yaml", ".yml") else built_in / f"{source}.yaml"
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # such as a name that is too long
        is_file = False
    if not is_file:
        names = sorted(p.stem for p in built_in.glob("*.yaml"))
        fix = f"{nearest(source, names)} choose from: {', '.join(names)}; or give a YAML file"
        raise BadInput(f"no such {what}", source, fix.strip())
    return path


def wrong_content(error: Exception, path: Path, fix: str) -> BadInput:
    """Return the one-line error for the content of a YAML file, with its key if OmegaConf names one."""
    key = getattr(error, "full_key", "") or ""
    return BadInput(as_one_line((str(error).splitlines() or ["not readable"])[0]), f"{path}{key and f', {key}'}", fix)

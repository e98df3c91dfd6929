"""Versions of installed packages."""

from importlib.metadata import PackageNotFoundError, version


def package_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Return the installed version of each package, or `missing`."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"

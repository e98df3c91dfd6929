"""Import scoringrules without its compiled kernels."""

import sys
from types import ModuleType


def scoring_rules() -> ModuleType:
    """Return scoringrules on NumPy alone: compiling its numba kernels, at its import, takes several seconds."""
    if "scoringrules" not in sys.modules:
        kept = sys.modules.get("numba")
        sys.modules["numba"] = None  # type: ignore[assignment]
        try:
            import scoringrules  # noqa: F401
        finally:
            del sys.modules["numba"]
            if kept:
                sys.modules["numba"] = kept
    return sys.modules["scoringrules"]

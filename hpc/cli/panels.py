"""Panels of `polarcast --help`: the verbs, grouped by what people do."""

from typing import Any

from typer.core import TyperGroup

PANELS = {
    "Data": ("data",),
    "Train and evaluate": ("train", "evaluate", "sweep", "estimate"),
    "Benchmark": ("bench", "finetune", "leaderboard", "claim", "robustness", "power", "coverage", "perf"),
    "Cluster": ("submit", "doctor"),
    "Look": ("predict", "zoo", "explain", "track"),
}
"""Verbs by panel, in the order of the help."""
OTHERS = "From other packages"
_PLACES = {verb: place for place, verb in enumerate(verb for verbs in PANELS.values() for verb in verbs)}


def panel_of(verb: str) -> str:
    """Return the panel of a verb."""
    return next((panel for panel, verbs in PANELS.items() if verb in verbs), OTHERS)


class OrderedVerbs(TyperGroup):
    """List verbs in the order of the panels; typer lists those with subcommands last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all verbs."""
        return sorted(super().list_commands(ctx), key=lambda verb: _PLACES.get(verb, len(_PLACES)))

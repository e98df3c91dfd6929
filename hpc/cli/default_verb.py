"""Groups of verbs of which one need not be named: `bench SUITE` stands for `bench run SUITE`."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

_HELP = ("-h", "--help")


class DefaultVerb(TyperGroup):
    """Read `GROUP WORD…` as `GROUP DEFAULT WORD…`, unless the first word names a verb of the group."""

    default = ""
    """Verb that is meant if none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the group."""
        return super().parse_args(ctx, self.with_verb(args))

    def with_verb(self, words: Sequence[str]) -> list[str]:
        """Return the words after the group, with the verb that is meant."""
        is_named = not words or words[0] in (*self.commands, *_HELP)
        return list(words) if is_named else [self.default, *words]


def with_verb(group: Any, words: Sequence[str]) -> list[str]:
    """Return the words after any group, with the verb that is meant if none is named."""
    return group.with_verb(words) if isinstance(group, DefaultVerb) else list(words)

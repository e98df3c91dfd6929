"""Perturbations of radar input by name and level, such as `zdr_bias=0.3`, `lost=zdr` or `zdr_bias=0.3,noise=2`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isfinite

from polarcast.data.archive import VARIABLES
from polarcast.data.arguments import text_of
from polarcast.data.errors import BadInput, shown

Level = float | str


@dataclass(frozen=True)
class Kind:
    """A kind of perturbation.

    Attributes:
        label: Name in figures and tables.
        unit: Unit of its level; empty for a share or a factor.
        neutral: Level that changes nothing; None for a lost variable or height.
        least, most: Limits of the level.
        is_whole: Whether levels are whole numbers.
        needs_zh: Whether it is computed from zh, so that zh has to be among the inputs.
        needs_site: Whether it depends on the position of the radar, which is the center pixel.
        changes: Variables that it may change.
    """

    label: str
    unit: str = ""
    neutral: float | None = None
    least: float = 0.0
    most: float = 0.0
    is_whole: bool = False
    needs_zh: bool = False
    needs_site: bool = False
    changes: tuple[str, ...] = VARIABLES


LOST, LOST_HEIGHT = "lost", "lost_height"
NONE = "none"
"""Text of a perturbation without steps."""
KINDS: dict[str, Kind] = {
    "resolution": Kind("coarser resolution", "px", 1, 1, 16, is_whole=True),
    "attenuation": Kind(
        "attenuation not corrected", "", 0, 0, 1, needs_zh=True, needs_site=True, changes=("zh", "zdr")
    ),
    "blockage": Kind("azimuths partly blocked", "", 0, 0, 1, needs_site=True, changes=("zh",)),
    "zh_bias": Kind("ZH bias", "dB", 0, -10, 10, changes=("zh",)),
    "zdr_bias": Kind("ZDR bias", "dB", 0, -2, 2, changes=("zdr",)),
    "noise": Kind("noise", "×", 1, 1, 10),
    "kdp_smoothing": Kind("KDP smoothed in range", "px", 1, 1, 51, is_whole=True, changes=("kdp",)),
    LOST: Kind("variable lost"),
    LOST_HEIGHT: Kind("height lost", "km", None, 0, 100),
}
"""Kinds in the order in which they are applied, that of a measurement: beam, path, receiver, processing, loss."""


@dataclass(frozen=True)
class Perturbation:
    """One or several perturbations at given levels, each kind once, in the order of `KINDS`; without steps, none."""

    steps: tuple[tuple[str, Level], ...] = ()

    @classmethod
    def parse(cls, text: object, where: str = "perturbation") -> "Perturbation":
        """Parse `name=level`, or several joined by commas.

        Raises:
            BadInput: a name is unknown or repeated, or a level is no number or out of range.
        """
        parts = [part.partition("=") for part in text_of(text, where, "zdr_bias=0.3").split(",")]
        steps = [(name.strip(), _level(name.strip(), level.strip(), where)) for name, _, level in parts]
        names = [name for name, _ in steps]
        if twice := [name for name in names if names.count(name) > 1]:
            raise BadInput(f"{twice[0]} appears twice", where, "give it once")
        return cls(tuple(sorted(steps, key=lambda step: list(KINDS).index(step[0]))))

    def __str__(self) -> str:
        return ",".join(f"{name}={level_text(level)}" for name, level in self.steps) or NONE

    @property
    def active(self) -> "Perturbation":
        """The perturbation without the steps whose level changes nothing."""
        return Perturbation(tuple((name, level) for name, level in self.steps if level != KINDS[name].neutral))

    def seen_by(self, variables: Collection[str]) -> "Perturbation":
        """Return the active steps that can change an input of these variables."""
        return Perturbation(tuple(step for step in self.active.steps if changed_by(*step) & set(variables)))

    def obstacle(self, variables: Collection[str], heights_km: Sequence[float], has_site: bool = True) -> str:
        """Return why it does not apply to inputs of an archive; empty if it does.

        Args:
            variables: Variables that some arm of the comparison reads.
            heights_km: Heights that are read.
            has_site: Whether the archive is of one radar in the center of the grid.
        """
        for name, level in self.active.steps:
            if not changed_by(name, level) & set(variables):
                return f"{' and '.join(sorted(changed_by(name, level))).upper()} is not read"
            if KINDS[name].needs_zh and "zh" not in variables:
                return f"{name} is computed from ZH, which is not read"
            if KINDS[name].needs_site and not has_site:
                return f"{name} needs a radar in the center of the grid, and these are tiles of composites"
            if name == LOST_HEIGHT and level not in heights_km:
                return f"{level_text(level)} km is not read"
        return ""


def changed_by(name: str, level: Level) -> set[str]:
    """Return the variables that one step may change."""
    return {str(level)} if name == LOST else set(KINDS[name].changes)


def level_text(level: Level) -> str:
    """Format a level as in the text of a perturbation."""
    return level if isinstance(level, str) else f"{level:g}"


def checked_name(name: str, where: str) -> str:
    """Return the name of a kind of perturbation. Raises BadInput if it is unknown."""
    if name not in KINDS:
        raise BadInput(f"unknown perturbation {shown(name)}", where, f"choose from: {', '.join(KINDS)}")
    return name


def parse_ranges(texts: Sequence[str], where: str = "data.degrade") -> tuple[tuple[str, Level], ...]:
    """Parse the strongest perturbations of training samples, in the order in which they are applied.

    `zdr_bias=0.5` is uniform from −0.5 to 0.5 dB, `noise=2` uniform from 1 to 2, `resolution=4` one of 1, 2, 3, 4;
    `lost=zdr` happens to half of the samples.

    Raises:
        BadInput: a perturbation is unknown, out of range or repeated, or a text combines several.
    """
    steps = list[tuple[str, Level]]()
    for text in texts:
        found = Perturbation.parse(text, where).steps
        if len(found) > 1:
            raise BadInput(f"{text!r} combines several", where, "give each as an entry of the list")
        steps += found
    once = [step if step[0] in (LOST, LOST_HEIGHT) else step[0] for step in steps]
    if twice := [step for step in once if once.count(step) > 1]:
        name = twice[0] if isinstance(twice[0], str) else twice[0][0]
        raise BadInput(f"{name} appears twice", where, "give it once")
    return tuple(sorted(steps, key=lambda step: list(KINDS).index(step[0])))


def _level(name: str, text: str, where: str) -> Level:
    kind = KINDS[checked_name(name, where)]
    if name == LOST:
        if text not in VARIABLES:
            raise BadInput(f"{shown(text)} is not a variable", f"{where}, {name}", f"give {', '.join(VARIABLES)}")
        return text
    bounds = f"{kind.least:g} to {kind.most:g}{f' {kind.unit}' if kind.unit else ''}"
    fix = f"give {'a whole number' if kind.is_whole else 'a number'} from {bounds}"
    try:
        number = float(text)
    except ValueError:
        raise BadInput(f"{shown(text)} is not a number", f"{where}, {name}", fix) from None
    if not (isfinite(number) and kind.least <= number <= kind.most) or (kind.is_whole and number != int(number)):
        raise BadInput(f"{text} is out of range", f"{where}, {name}", fix)
    return number + 0.0  # -0 is 0

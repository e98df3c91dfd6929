"""Games of retrained models: runs of a suite that differ in their input variables only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from polarcast.data.archive import VARIABLES
from polarcast.data.errors import BadInput
from polarcast.hpc.bench.contrasts import Run
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.schema import RunConfig, StartRun
from polarcast.models.registry import get_model

Configs = Mapping[Run, RunConfig]


@dataclass(frozen=True)
class Game:
    """Runs that differ in their input variables only, and cover every coalition of the players.

    Attributes:
        players: Variables whose contributions are computed.
        given: Variables that every coalition has.
        runs: Model and arm of each coalition; bit i of the index is set if player i is present.
        empty: Model that stands for the coalition without any variable; empty if `given` is not.
    """

    players: tuple[str, ...]
    given: tuple[str, ...]
    runs: tuple[Run, ...]
    empty: str = ""

    @property
    def baseline(self) -> str:
        """Description of the coalition that the values start from."""
        return f"the score of {self.empty}" if self.empty else f"{_named(self.given)} alone"


def find_game(configs: Configs, empty: str | None = None, model: str | None = None) -> Game:
    """Find runs that differ in their input variables only.

    Args:
        configs: Configuration of each model and arm that is scored.
        empty: See `retrained_values`.
        model: See `retrained_values`.

    Raises:
        BadInput: see `retrained_values`.
    """
    known = list(dict.fromkeys(name for name, _ in configs))
    for name, option in ((empty, "--empty"), (model, "--model")):
        if name is not None and name not in known:
            raise BadInput(f"no scored model {name!r}", option, f"choose from: {', '.join(known)}")
    families = [family for family in _families(configs) if model in (None, *(name for name, _ in family.values()))]
    largest = max(families, key=lambda family: (len(family), _is_trained(configs, family)), default={})
    if len(largest) < 2:
        what = f"no scored runs {f'of {model} ' if model else ''}differ only in their input variables"
        raise BadInput(what, "--retrained", "add models of other data.variables, or another arm, to the suite")
    return _game(largest, _run_of(configs, empty) if empty else None)


def _families(configs: Configs) -> list[dict[frozenset[str], Run]]:
    """Return the runs of each family, whose configurations are equal but for arm, variables and seed, by variables."""
    families: dict[str, dict[frozenset[str], Run]] = {}
    for run, config in configs.items():
        if not config.is_placebo:
            families.setdefault(digest(_common(config)), {}).setdefault(frozenset(config.variables()), run)
    return list(families.values())


def _common(config: RunConfig) -> RunConfig:
    """Return the configuration without what differs within a family, also in its base."""
    bases = [replace(base, config=_common(base.config)) for base in config.bases]
    data = replace(config.data, variables=None)
    start = config.start and StartRun("", _common(config.start.config))
    return replace(config, arm="dualpol", seed=0, data=data).with_bases(bases).with_start(start)


def _is_trained(configs: Configs, family: Mapping[frozenset[str], Run]) -> bool:
    return get_model(configs[next(iter(family.values()))].model["name"]).trained


def _run_of(configs: Configs, model: str) -> Run:
    return next(run for run in configs if run[0] == model)


def _game(family: Mapping[frozenset[str], Run], empty: Run | None) -> Game:
    every = [name for name in VARIABLES if any(name in subset for subset in family)]
    given = () if empty else _given(family)
    players = tuple(name for name in every if name not in given)
    subsets = [(*given, *(p for i, p in enumerate(players) if mask >> i & 1)) for mask in range(2 ** len(players))]
    runs = [empty if empty and not subset else family.get(frozenset(subset)) for subset in subsets]
    if missing := [_named(subset) for subset, run in zip(subsets, runs, strict=True) if run is None]:
        model = next(iter(family.values()))[0]
        what = f"no scored run with {model}'s other settings has the inputs {', '.join(missing)}"
        raise BadInput(what, "--retrained", "add such models to the suite and run it")
    return Game(players, given, tuple(run for run in runs if run), empty[0] if empty else "")


def _given(family: Iterable[frozenset[str]]) -> tuple[str, ...]:
    """Return the variables that all coalitions have: those of all runs, or else ZH."""
    shared = frozenset.intersection(*family)
    if not shared and frozenset({"zh"}) not in family:
        fix = "add a run from ZH alone, or name a reference with --empty, such as persistence"
        raise BadInput("the runs have no variable in common", "--retrained", fix)
    return tuple(name for name in VARIABLES if name in (shared or {"zh"}))


def _named(variables: Iterable[str]) -> str:
    """Return variables as text, `ZH+ZDR`."""
    return "+".join(name.upper() for name in variables)

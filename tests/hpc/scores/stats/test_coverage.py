"""Check the coverage of 95% intervals on storms of the generator that the suites use, and for events in groups."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import open_reader
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import score
from polarcast.hpc.scores.event_scores import EventScores
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.bootstrap import interval
from polarcast.hpc.scores.stats.coverage import Coverage, CoverageCase, measure_coverage
from polarcast.models.forecaster import InputSpec
from polarcast.models.qpe.power_law import PowerLaw, PowerLawConfig

STORMS = 200
HEIGHT = (1.0,)


@pytest.fixture(scope="module")
def laws(tmp_path_factory: pytest.TempPathFactory) -> tuple[Records, Records]:
    """Score R(ZH) and R(ZH, ZDR) as published, on storms as the demo's but of another seed."""
    folder: Path = tmp_path_factory.mktemp("storms")
    write_archive(folder / "archive", STORMS, size=64, seed=99, preset="tiny", frames=1, workers=1)
    manifest = write_shards(open_archive(folder / "archive"), folder / "shards", split="all-test")
    scored = []
    for variables in (("zh",), ("zh", "zdr")):
        law = PowerLaw(PowerLawConfig(), InputSpec(variables, HEIGHT))
        reader = open_reader(manifest, "test", variables=variables, heights_km=HEIGHT, observed=True)
        scored.append(score(law.forecast, reader, World(), only=("continuous", "contingency")))
    return scored[0], scored[1]


@pytest.mark.parametrize(("name", "events", "least"), [
    ("rmse", 40, 0.89), ("rmse", 60, 0.90), ("paper_rbias", 40, 0.91), ("paper_rbias", 160, 0.92),
    ("csi@threshold=10", 60, 0.92), ("csi@threshold=30", 60, 0.91), ("nb", 60, 0.91),
])  # fmt: skip
def test_intervals_of_generated_storms(laws: tuple[Records, Records], name: str, events: int, least: float) -> None:
    """Errors as ratios and skill as differences cover nearly 95%; docs/guides/statistics.md has the table."""
    case = CoverageCase(name, events)
    found = measure_coverage([laws[0]], [laws[1]], case, trained=False, trials=300, draws=500)
    print(f"{name} of {events} events: covered {found.covered:.1%} ± {found.error:.1%}")
    assert least <= found.covered <= 0.99
    assert found.trials > 290


def test_intervals_of_a_score_itself(laws: tuple[Records, Records]) -> None:
    case = CoverageCase("paper_rbias", 60, alone=True)
    found = measure_coverage([laws[0]], [laws[1]], case, trained=False, trials=200)
    assert 0.9 <= found.covered <= 0.99
    assert found.effect == pytest.approx(EventScores(laws[1])["paper_rbias"])


def test_runs_of_a_model_without_an_effect_are_rarely_marked(laws: tuple[Records, Records]) -> None:
    """Runs that differ by chance in all of their errors, as nets of several seeds do."""
    runs = trained_runs(laws[1], 8)
    case = CoverageCase("rmse", 60, seeds=3, null=True)
    found = measure_coverage(runs, runs, case, trained=True, trials=300, draws=500)
    assert found.significant <= 0.06 + 2 * np.sqrt(0.06 * 0.94 / 300)
    assert found.significant == pytest.approx(1 - found.covered)


def test_the_spread_between_runs_is_in_the_interval_of_three_seeds_only(laws: tuple[Records, Records]) -> None:
    runs = trained_runs(laws[1], 8, spread=0.05)
    alone, several = (
        measure_coverage(runs, runs, CoverageCase("rmse", 60, k, null=True), trained=True, trials=200, draws=300)
        for k in (1, 3)
    )
    assert alone.significant == 0  # one run of a trained model says nothing about others
    assert alone.covered > 0.9  # of the effect of these runs
    assert several.width > 1.3 * alone.width
    as_if_fixed = measure_coverage(
        runs, runs, CoverageCase("rmse", 60, null=True), trained=False, trials=200, draws=300
    )
    assert as_if_fixed.significant > 0.3  # what stars of single seeds would be worth


def trained_runs(records: Records, count: int, spread: float = 0.02) -> list[Records]:
    rng = np.random.default_rng(0)
    runs = []
    for _ in range(count):
        factor = np.ones(records.sums["continuous"].shape)
        factor[..., 3:5] *= rng.lognormal(0, 2 * spread)
        factor[..., 3:5] *= rng.lognormal(0, 0.05, (len(records.events), 1, 1, 1, 1))
        runs.append(replace(records, sums={**records.sums, "continuous": records.sums["continuous"] * factor}))
    return runs


def test_tiles_of_one_day_are_one_group() -> None:
    """20 days of 6 tiles, correlated by 0.5 within a day: as single events, the interval covers about 70%."""
    rng = np.random.default_rng(5)

    def covers(by_group: bool) -> float:
        hits = []
        for trial in range(400):
            day, tile = rng.normal(0, 1, (20, 1)), rng.normal(0, 1, (20, 6))
            values = np.sqrt(0.5) * day + np.sqrt(0.5) * tile
            sums = np.stack([values, np.ones_like(values)], -1)
            rows = sums.sum(1) if by_group else sums.reshape(-1, 2)
            found = interval([rows[None]], lambda s: s[..., 0] / s[..., 1], draws=300, seed=trial % 4)
            hits.append(found.low <= 0 <= found.high)
        return float(np.mean(hits))

    single, grouped = covers(by_group=False), covers(by_group=True)
    print(f"as events {single:.1%}, as groups {grouped:.1%}")
    assert single < 0.8
    assert 0.92 <= grouped <= 0.98


def test_a_sample_draws_groups_and_needs_enough_runs(laws: tuple[Records, Records]) -> None:
    grouped = [replace(each, groups=np.array([f"day{e % 20}" for e in range(STORMS)])) for each in laws]
    found: Coverage = measure_coverage(
        [grouped[0]], [grouped[1]], CoverageCase("paper_rbias", 10), trained=False, trials=20, draws=200
    )
    assert found.trials == 20
    with pytest.raises(BadInput, match="samples need 3 runs, there are 1"):
        measure_coverage([laws[0]], [laws[1]], CoverageCase("rmse", 40, seeds=3), trained=True, trials=20)

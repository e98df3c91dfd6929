"""`polarcast evaluate --gauges`: laws and archive alone, runs and suites, files written, and calls that can't work."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from polarcast.data.gauges.gauge import Gauge
from polarcast.data.shards.write import write_shards
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.data import prepare_data
from polarcast.hpc.bench.suite import load_suite
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.runs.checkpoint import save_weights
from polarcast.hpc.runs.provenance import describe, write_provenance
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support.finished_run import BASELINE, CONTEXT, finished
from tests.support.gauge_archive import frame_times, gauge_at, moving_rain, write_gauge_archive, write_table

DAYS, FRAMES, SIZE = 4, 20, 32
PLACES = [(6, 7), (25, 9), (14, 20), (20, 27), (9, 16), (28, 28), (17, 5), (3, 24)]
Command = Callable[..., tuple[int, str, str]]

SUITE = """
name: small
data: {synth: {events: 10, frames: 2, size: 32, preset: tiny, seed: 5}, split: 0.6/0.2/0.2}
models:
  law: {label: the law, arms: [radar, dualpol], set: {data: {heights_km: [1.0]},
        model: {name: power_law, coefficients: published}}}
tables:
  main: {title: Main, metrics: [rmse]}
"""


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resample 100 times: what intervals cover is tested with the scores."""
    monkeypatch.setattr("polarcast.hpc.evaluation.gauges.two_way.DRAWS", 100)


@pytest.fixture(scope="module")
def rains() -> list[Any]:
    return [moving_rain(FRAMES, SIZE, seed) for seed in range(DAYS)]


@pytest.fixture(scope="module")
def gauges(rains: list[Any]) -> list[Gauge]:
    """Return gauges that are right, with intervals of 30 minutes."""
    ends = np.concatenate([frame_times(day, FRAMES)[4::5] for day in range(DAYS)])
    return [
        gauge_at(f"G{i}", row, column, ends, 30,
                 np.concatenate([rain[:, row, column].reshape(-1, 5).sum(1) * 0.1 for rain in rains]))
        for i, (row, column) in enumerate(PLACES)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def root(rains: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive whose own rain is half of the truth."""
    return write_gauge_archive(tmp_path_factory.mktemp("halved") / "storms", rains, factor=0.5).root


@pytest.fixture(scope="module")
def table(gauges: list[Gauge], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("gauges") / "gauges.csv", gauges)


def test_a_low_bias_is_found_beside_laws_that_are_right(
    root: Path, table: Path, polarcast_here: Command, tmp_path: Path
) -> None:
    picture = tmp_path / "gauges.png"
    code, out, err = polarcast_here("evaluate", "--archive", root, "--gauges", table, "--picture", picture)
    assert code == 0, err
    assert "128 intervals of 30 min, 8 gauges, 4 days" in out
    assert "95% intervals over days and stations" in out
    assert "Z–R against archive" in out
    assert picture.read_bytes()[:4] == b"\x89PNG"
    record = json.loads((root / "gauges" / "scores.json").read_text(encoding="utf-8"))
    [result] = record["results"]
    bias = {name: by["pixel"]["bias"] for name, by in result["scores"].items()}
    assert list(bias) == ["archive", "Z–R", "R(ZH, ZDR)", "R(KDP)"]
    assert bias["archive"]["value"] == pytest.approx(0.5, abs=1e-3)
    assert bias["archive"]["high"] < 0.51
    assert bias["R(KDP)"]["value"] == pytest.approx(1.0, abs=1e-3)
    assert record["estimators"]["R(KDP)"].startswith("R = 29.7 KDP^0.85")
    assert record["estimators"]["archive"] == "known rain of a test"
    assert [row["used"] for row in record["gauges"]] == [16] * 8
    assert [c["class"] for c in result["by_range"]] == ["0–30 km"]
    [change] = [c for c in result["compared"] if (c["first"], c["second"]) == ("archive", "Z–R")]
    assert change["scores"]["rmse"]["value"] == pytest.approx(-1, abs=0.01)


def test_an_archive_without_rain_has_its_laws(
    rains: list[Any], table: Path, polarcast_here: Command, tmp_path: Path
) -> None:
    root = write_gauge_archive(tmp_path / "dry", rains, has_rain=False, variables=("zh",)).root
    picture = tmp_path / "gauges.png"
    code, out, err = polarcast_here("evaluate", "--archive", root, "--gauges", table, "--picture", picture)
    assert code == 0, err
    assert "R(KDP) is left out: the archive has no kdp" in out
    record = json.loads((root / "gauges" / "scores.json").read_text(encoding="utf-8"))
    assert record["results"][0]["scores"]["Z–R"]["pixel"]["bias"]["value"] == pytest.approx(1, abs=1e-3)
    assert list(record["estimators"].items()) == [("Z–R", "Z = 200 R^1.6 of ZH up to 55 dBZ at the lowest level")]
    assert picture.is_file()


def test_gauges_whose_intervals_are_too_long_are_named(
    root: Path, table: Path, gauges: list[Gauge], polarcast_here: Command, tmp_path: Path
) -> None:
    code, _, err = polarcast_here("evaluate", "--archive", root, "--gauges", table, "--accumulate", 10)
    assert code == 2
    assert "--accumulate: no interval of 10 min is full at any gauge" in err
    daily = gauge_at("daily", 20, 20, [np.datetime64("2020-06-02T00:00:00")], 1440, [9.0])
    more = write_table(tmp_path / "daily.csv", [daily])
    code, out, _ = polarcast_here(
        "evaluate", "--archive", root, "--gauges", table, "--gauges", more, "--accumulate", 60
    )
    assert code == 0
    assert "no interval of 60 min is full: daily" in out


def test_exchanged_latitudes_and_longitudes_are_named(
    root: Path, table: Path, polarcast_here: Command, tmp_path: Path
) -> None:
    turned = tmp_path / "turned.csv"
    turned.write_text(table.read_text(encoding="utf-8").replace("lat,lon", "lon,lat"), encoding="utf-8")
    code, _, err = polarcast_here("evaluate", "--archive", root, "--gauges", turned)
    assert code == 2
    assert "no gauge of 8 lies on the grid of an event — latitudes and longitudes are exchanged" in err


def test_the_tables_of_scores_and_pairs(root: Path, table: Path, polarcast_here: Command, gauges: list[Gauge]) -> None:
    code, out, _ = polarcast_here("evaluate", "--archive", root, "--gauges", table, "--json", "--accumulate", 120)
    assert code == 0
    record = json.loads(out)
    assert record["results"][0]["minutes"] == 120
    with (root / "gauges" / "pairs.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == record["results"][0]["pairs"]
    for row in rows:
        assert float(row["archive, pixel"]) == pytest.approx(0.5 * float(row["gauge_mm"]), abs=2e-3)
    total = sum(float(row["gauge_mm"]) for row in rows if row["station"] == "G1")
    assert total == pytest.approx(gauges[1].mm.sum(), abs=1e-2)
    with (root / "gauges" / "scores.csv").open(encoding="utf-8") as stream:
        scores = {(row["estimator"], row["pixels"], row["score"]): row for row in csv.DictReader(stream)}
    assert float(scores["archive", "pixel", "bias"]["value"]) == pytest.approx(0.5, abs=1e-3)
    assert len(scores) == 4 * 3 * 9


def test_a_run_is_scored_beside_the_laws(root: Path, table: Path, polarcast_here: Command, tmp_path: Path) -> None:
    """A power law with the published coefficients is R(KDP), whatever its windows and batches."""
    from polarcast.data.archive import open_archive

    shards = write_shards(open_archive(root), tmp_path / "shards", split="0.4/0.3/0.3")
    run = finished(shards, tmp_path / "runs" / "law", *BASELINE, "model.coefficients=published", "arm=dualpol",
                   "data.heights_km=[1.0]")  # fmt: skip
    code, out, err = polarcast_here("evaluate", run.path, "--archive", root, "--gauges", table, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert record["folder"] == str(run.path / "on" / "storms" / "gauges")
    [result] = record["results"]
    assert list(result["scores"])[-1] == "law"
    assert result["pairs"] == 128
    said = result["scores"]["law"]["pixel"]
    assert 0.3 < said["bias"]["value"] < 3
    # Its estimates follow the truth, on every frame: a mistake in time or place would show.
    assert said["cc"]["value"] > 0.95


def test_a_run_that_reads_earlier_frames_has_an_estimate_of_every_frame(
    root: Path, table: Path, polarcast_here: Command, tmp_path: Path
) -> None:
    from polarcast.data.archive import open_archive

    shards = write_shards(open_archive(root), tmp_path / "shards", split="0.4/0.3/0.3")
    run = finished(shards, tmp_path / "net", *CONTEXT, "arm=radar", "data.heights_km=[1.0]")
    code, out, err = polarcast_here("evaluate", run.path, "--archive", root, "--gauges", table, "--json")
    assert code == 0, err
    [result] = json.loads(out)["results"]
    assert result["pairs"] == 128
    assert result["left_out"] == {}


def trained_suite(folder: Path, file: Path) -> Path:
    """Make a folder of a suite whose runs are trained, without scores and tables."""
    suite, console = load_suite(str(file)), stderr()
    console.quiet = True
    places = SuiteFolder(folder, suite.data)
    with ProgressBoard(console) as board:
        manifest = prepare_data(suite.data, places.archive, places.shards, 1, board)
    for cell in cells_of(suite, places.shards):
        run = places.cell(cell, manifest)
        run.start(cell.config)
        write_provenance(run.provenance_file, describe(manifest))
        save_weights(run.weights_file, build_model(resolve(cell.config)).state_dict())
    places.suite_file.write_text(OmegaConf.to_yaml(OmegaConf.structured(suite)), encoding="utf-8")
    return folder


def test_a_suite_is_scored_by_model_and_arm(root: Path, table: Path, polarcast_here: Command, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SUITE, encoding="utf-8")
    suite = trained_suite(tmp_path / "suite", tmp_path / "small.yaml")
    code, out, err = polarcast_here("evaluate", suite, "--archive", root, "--gauges", table, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert list(record["results"][0]["scores"])[4:] == ["the law, radar", "the law, dualpol"]
    assert (suite / "on" / "storms" / "gauges" / "pairs.csv").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gauges", "TABLE"), "gauges need an archive"),
        (("--archive", "ROOT"), "no run is given"),
        (("--archive", "ROOT", "--picture", "x.png"), "options of gauges, without gauges"),
        (("--archive", "nowhere", "--gauges", "TABLE"), "nowhere: no such folder"),
        (("--archive", "ROOT", "--gauges", "nowhere.csv"), "nowhere.csv: no such file"),
        (("nowhere", "--archive", "ROOT", "--gauges", "TABLE"), "nowhere: no such folder"),
        (("--archive", "ROOT", "--gauges", "TABLE", "--split", "test"), "--split: has no meaning with --gauges"),
        (("--archive", "ROOT", "--gauges", "TABLE", "--by", "class"), "--by: has no meaning with --gauges"),
        (("--archive", "ROOT", "--gauges", "TABLE", "--correlation", "much"), "'much' is no correlation"),
        (("--archive", "ROOT", "--gauges", "TABLE", "--z-r", "200"), "no a and b"),
        (("--archive", "ROOT", "--gauges", "TABLE", "--z-r", "0,1"), "no Z–R relation"),
        (("--archive", "ROOT", "--gauges", "TABLE", "--accumulate", "0"), "--accumulate: 0 is not a positive number"),
        (("--archive", "ROOT", "--gauges", "TABLE", "--gauge-time-zone", "Mars"), "unknown time zone 'Mars'"),
        (("--archive", "ROOT", "--gauges", "TABLE", "--gauge-time", "noon"), "--gauge-time: unknown value 'noon'"),
        (("--archive", "ROOT", "--gauges", "LATER"), "have no time in common — give gauges of the same time"),
        (("--archive", "ROOT", "--gauges", "FEW"), "4 intervals of gauges have all their frames; 5 are needed"),
        (
            ("--archive", "ROOT", "--gauges", "NEGATIVE"),
            "no amount of the gauges is used: 128 × range — look at the units",
        ),
        (("--archive", "ROOT", "--gauges", "MISSING"), "no amount of the gauges is used: 128 × missing"),
    ],
)
def test_calls_that_cannot_work(
    words: tuple[str, ...], message: str, root: Path, table: Path, polarcast_here: Command, tmp_path: Path
) -> None:
    header, *lines = table.read_text(encoding="utf-8").splitlines()
    tables = {
        "LATER": [line.replace("2020-06", "2021-06") for line in lines],
        "FEW": lines[:4],
        "NEGATIVE": [",".join([*line.split(",")[:4], "-1.5,30"]) for line in lines],
        "MISSING": [",".join([*line.split(",")[:4], "-999,30"]) for line in lines],
    }
    known = {"ROOT": root, "TABLE": table}
    for name in tables.keys() & set(words):
        known[name] = tmp_path / f"{name}.csv"
        known[name].write_text("\n".join([header, *tables[name]]), encoding="utf-8")
    code, out, err = polarcast_here("evaluate", *(known.get(word, word) for word in words))
    assert code == 2, out
    assert message in err
    assert len([line for line in err.splitlines() if line.startswith("polarcast:")]) == 1


def test_nowcasts_are_refused(root: Path, table: Path, polarcast_here: Command, tmp_path: Path) -> None:
    from polarcast.data.archive import open_archive

    shards = write_shards(open_archive(root), tmp_path / "shards", split="0.4/0.3/0.3")
    run = finished(shards, tmp_path / "run", "task=nowcast", "arm=radar", "model.name=persistence",
                   "match_params=false", "data.heights_km=[1.0]", "data.seen_frames=2",
                   "data.lead_frames=2")  # fmt: skip
    code, _, err = polarcast_here("evaluate", run.path, "--archive", root, "--gauges", table)
    assert code == 2
    assert "the run nowcasts reflectivity; gauges score estimates of rain" in err


@pytest.mark.real_data
def test_the_low_bias_of_open_mrg(shared_data: Path, polarcast_here: Command, tmp_path: Path) -> None:
    """The composite has about a third of the rain of the gauges: 0.7 to 2.3 mm where these have 3.9 to 6.4 mm.

    The file's y axis and its latitudes disagree about north. Rain at the gauges follows the latitudes.
    """
    folder = shared_data / "gauges_openmrg_20150725"
    code, _, err = polarcast_here("data", "ingest", tmp_path / "mrg", folder / "openmrg_rad.nc", "--units",
                                  "mm per 5 min", "--spacing-km", 2, "--step-minutes", 5, "--size", 64, "--rows",
                                  "south-first")  # fmt: skip
    assert code == 0, err
    gauges = [word for name in ("municp", "smhi") for word in ("--gauges", folder / f"openmrg_{name}_gauge.nc")]
    picture = tmp_path / "mrg.png"
    code, out, err = polarcast_here("evaluate", "--archive", tmp_path / "mrg", *gauges, "--picture", picture, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert any("zh is derived, not measured" in line for line in record["notes"])
    short, long = record["results"]
    assert (short["minutes"], short["stations"], long["minutes"], long["stations"]) == (5, 10, 15, 1)
    bias = short["scores"]["archive"]["pixel"]["bias"]
    assert bias["over"] == "stations"
    assert 0.2 < bias["low"] < bias["value"] < bias["high"] < 0.5
    # From the gauges' totals of the README, and from a composite that follows them in time.
    assert short["total_gauges_mm"] == pytest.approx(46.3, abs=0.1)
    assert short["scores"]["archive"]["pixel"]["cc"]["value"] > 0.55
    assert picture.is_file()

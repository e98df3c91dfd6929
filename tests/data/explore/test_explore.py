"""Tests of the exploration of archives: rain relation, frequency maps, report and figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import Archive, open_archive
from polarcast.data.explore.describe import describe_event, join_maps
from polarcast.data.explore.explore import Exploration, explore
from polarcast.data.explore.rain_relation import fit_rain_relations, verdict
from polarcast.data.synth.generate import archive_truth, write_archive
from polarcast.hpc.cli.data import _acceptance_table

pytestmark = pytest.mark.acceptance

FIGURES = {"fig_5_1.png", "fig_5_2.png", "fig_7_1.png", "fig_7_2.png", "frames.png"}


def test_a_rain_grid_computed_from_kdp_is_detected() -> None:
    rng = np.random.default_rng(0)
    kdp = rng.normal(0.3, 0.5, (4000, 3))
    product = 57.1 * np.maximum(kdp[:, 1], 0) ** 0.785
    relations = fit_rain_relations(kdp, product * (1 + 0.01 * rng.normal(size=4000)), (1.0, 3.0, 7.0))
    assert [r.is_product for r in relations] == [False, True, False]
    assert (relations[1].a, relations[1].b) == pytest.approx((57.1, 0.785), rel=0.01)
    assert "at 3 km" in verdict(relations)
    assert "agreement with KDP, not with gauges" in verdict(relations)


def test_rain_correlated_with_kdp_is_not_a_product() -> None:
    rng = np.random.default_rng(1)
    kdp = np.abs(rng.normal(0.3, 0.5, (4000, 1)))
    rain = 30 * kdp[:, 0] ** 0.8 * rng.lognormal(0, 0.4, 4000)
    relations = fit_rain_relations(kdp, rain, (1.0,))
    assert relations[0].correlation > 0.7
    assert "is not a function of KDP" in verdict(relations)


def test_the_relation_is_undefined_without_rain() -> None:
    assert np.isnan(fit_rain_relations(np.ones((100, 1)), np.zeros(100), (1.0,))[0].correlation)


def test_synthetic_rain_labels_are_distinguished(tmp_path: Path) -> None:
    found = {}
    for label in ("true_R", "kdp_rain"):
        write_archive(tmp_path / label, 2, size=32, seed=1, preset="tiny", frames=4, rain=label)
        found[label] = explore(open_archive(tmp_path / label), tmp_path / f"{label}-out")
    assert "is not a function of KDP" in found["true_R"].verdict
    assert "R(KDP) product" in found["kdp_rain"].verdict


def test_maps_count_every_echo_once_and_can_be_added(archive: Archive) -> None:
    descriptions = [describe_event(archive, e) for e in (0, 1)]
    joined = join_maps(descriptions)
    radar = np.stack([archive.read_radar(e, f) for e in (0, 1) for f in archive.frames[e]])
    for z, height in enumerate(archive.heights_km):
        zh, kdp = radar[:, 0, z], radar[:, 2, z]
        inside = (zh > 0) & (zh <= 70)
        assert joined["kdp", height].sums[:, 0].sum() == inside.sum()
        assert joined["kdp", height].sums[:, 1].sum() == pytest.approx(kdp[inside].sum(dtype=np.float64), rel=1e-6)


def test_report_and_figures_do_not_depend_on_the_number_of_workers(archive: Archive, tmp_path: Path) -> None:
    reports = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        done: list[int] = []
        explore(archive, out, truth=archive_truth(archive.root), workers=workers, on_event=done.append)
        assert done == list(range(1, 9))
        assert {p.name for p in out.iterdir()} == FIGURES | {"report.json", ".lock"}
        reports.append(json.loads((out / "report.json").read_text()))
    assert reports[0] == reports[1]
    assert {"test", "value", "low", "high", "pass"} == set(reports[0]["acceptance"][0])
    assert (reports[0]["events"], reports[0]["groups"]) == (8, 8)


@pytest.mark.real_data
def test_the_real_rain_grid_is_a_product_of_kdp_at_1_km(real_event: Path, tmp_path: Path) -> None:
    found = explore(open_archive(real_event), tmp_path)
    best = found.rain_relations[0]
    assert best.is_product
    assert (best.height_km, best.a, best.b) == pytest.approx((1.0, 57.1, 0.785), rel=0.01)
    assert not any(r.is_product for r in found.rain_relations[1:])


@pytest.mark.parametrize(("groups", "counted"), [(8, "8 events"), (1, "8 events of 1 group")])
def test_the_table_says_how_many_groups_the_events_form(groups: int, counted: str) -> None:
    title = _acceptance_table(Exploration(events=8, groups=groups, acceptance=[], rain_relations=[])).title
    assert str(title).endswith(f", {counted}")

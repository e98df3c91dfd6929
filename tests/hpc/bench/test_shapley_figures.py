"""Figures of Shapley values: what they show, in which order, and which are left out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.hpc.bench.figures import shapley
from polarcast.hpc.bench.figures.shapley import caption_of, draw_beside, draw_explanation
from polarcast.hpc.evaluation.shapley.result import ExplainedScore, Explanation, Pixels, PlayerValue
from polarcast.hpc.utils.plot_style import pyplot

QPE = tuple(f"{variable} {height} km" for variable in ("zh", "zdr") for height in (1, 3, 7))


def score(name: str, heading: str, values: dict[str, float], half: float | None = 0.01) -> ExplainedScore:
    found = [PlayerValue(p, v, *([] if half is None else [v - half, v + half])) for p, v in values.items()]
    return ExplainedScore(name, heading, "1", 0.1, 0.1 + sum(values.values()), tuple(found))


def explanation(players: tuple[str, ...], scores: list[ExplainedScore], pixels: int = 300) -> Explanation:
    rng = np.random.default_rng(0)
    features = rng.gamma(3, 8, (len(players), pixels)).astype(np.float32)
    sizes = np.linspace(-1, 0.1, len(players), dtype=np.float32)[:, None]
    return Explanation(
        runs=("run",), task="qpe", arm="dualpol", players=players, imputation="marginal", background={"size": 8},
        windows=90, events=24, groups=24, seeds=3, members=1, scores=tuple(scores), forecast=(),
        pixels=Pixels(sizes * (features - 24), features, "mm/h"),
    )  # fmt: skip


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Figures by name, instead of files."""
    figures: dict[str, Any] = {}

    def keep(figure: Any, path: Path) -> Path:
        figures[path.stem] = figure
        return path

    monkeypatch.setattr(shapley, "save", keep)
    return figures


def values_of(players: tuple[str, ...], first: float = 0.1) -> dict[str, float]:
    return {player: first / (1 + number) for number, player in enumerate(players)}


@pytest.mark.parametrize("count", [3, 6, 12])
def test_figures_are_drawn_for_any_number_of_players(count: int, tmp_path: Path) -> None:
    players = tuple(f"{variable} frame {k}" for variable in ("zh", "zdr", "kdp") for k in range(4))[:count]
    scores = [
        score("csi@threshold=35", "CSI ≥ 35 dBZ ↑", values_of(players, -0.2), None),
        *(score(f"csi@threshold=35,lead_time={t}", f"CSI ≥ 35 dBZ {t} min ↑", values_of(players)) for t in (6, 12, 60)),
        *(score(f"rmse@class={c}", f"−RMSE observed {c}–30 dBZ ↑", values_of(players), None) for c in (0, 20)),
    ]
    drawn = draw_explanation(tmp_path, explanation(players, scores))
    names = ["shapley_pixels.png", "shapley_scores.png", "shapley_lead_time.png", "shapley_class.png"]
    assert [path.name for path in drawn] == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    captions = [caption_of(path) for path in drawn]
    assert "at single pixels" in captions[0]
    assert "along lead time" in captions[2]
    assert len(set(captions)) == 3


def test_beeswarm_has_a_row_for_each_player_the_largest_on_top(kept: dict[str, Any]) -> None:
    draw_explanation(Path(), explanation(QPE, []))
    [axis] = [axis for axis in kept["shapley_pixels"].axes if axis.get_xlabel()]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[-1].startswith("ZH 1 km\n")
    assert labels[-1].endswith("dBZ")
    assert "[mm/h]" in axis.get_xlabel()
    dots = [drawn for drawn in axis.collections if len(drawn.get_offsets()) == 300]
    assert len(dots) == len(QPE)
    offsets = np.asarray(dots[-1].get_offsets())
    # The largest player's values fall with its features: low ones, blue, are to the right.
    assert np.corrcoef(offsets[:, 0], dots[-1].get_array())[0, 1] < -0.8
    rows = np.round([np.median(np.asarray(drawn.get_offsets())[:, 1]) for drawn in dots])
    assert rows.tolist() == list(range(len(QPE)))
    assert all(abs(np.asarray(d.get_offsets())[:, 1] - row).max() <= 0.41 for d, row in zip(dots, rows, strict=True))


def test_missing_features_are_gray(kept: dict[str, Any]) -> None:
    given = explanation(QPE, [])
    given.pixels.features[0, :100] = np.nan
    draw_explanation(Path(), given)
    [axis] = [axis for axis in kept["shapley_pixels"].axes if axis.get_xlabel()]
    assert [len(drawn.get_offsets()) for drawn in axis.collections][-2:] == [100, 200]


def test_bars_show_values_intervals_and_what_harms(kept: dict[str, Any]) -> None:
    values = {"zh": 0.2, "zdr": -0.05, "kdp": 0.1}
    of = explanation(tuple(values), [score("rmse", "−RMSE [mm/h] ↑", values), score("nb", "NB [%] → 0", values, None)])
    draw_explanation(Path(), of)
    rmse, nb = kept["shapley_scores"].axes
    assert [label.get_text() for label in rmse.get_yticklabels()] == ["ZDR", "KDP", "ZH"]
    assert [bar.get_width() for bar in rmse.patches] == pytest.approx([-0.05, 0.1, 0.2])
    assert [bool(bar.get_hatch()) for bar in rmse.patches] == [True, False, False]
    assert len({bar.get_facecolor() for bar in nb.patches}) == 1  # its best value is in between
    assert rmse.get_xlabel() == "0.100 without, 0.350 with all"
    [lines] = [drawn for drawn in rmse.collections if len(drawn.get_segments()) == 3]
    assert lines.get_segments()[0][:, 0] == pytest.approx([-0.06, -0.04])


def test_lead_times_are_a_line_and_a_band_for_each_player(kept: dict[str, Any]) -> None:
    times = (6, 12, 18)
    scores = [
        score(f"csi@threshold={dbz},lead_time={t}", f"CSI ≥ {dbz} dBZ {t} min ↑", {"zh": t / 100, "zdr": -0.01})
        for dbz in (20, 35)
        for t in times
    ]
    draw_explanation(Path(), explanation(("zh", "zdr"), scores, pixels=0))
    assert list(kept) == ["shapley_lead_time"]
    first, second = kept["shapley_lead_time"].axes
    assert (first.get_title(), second.get_title()) == ("CSI ≥ 20 dBZ ↑", "CSI ≥ 35 dBZ ↑")
    zh, zdr, zero = first.lines
    assert (zh.get_label(), zdr.get_label()) == ("ZH", "ZDR")
    assert zh.get_ydata().tolist() == pytest.approx([t / 100 for t in times])
    assert set(zero.get_ydata()) == {0}
    assert len(first.collections) == 2
    assert [label.get_text() for label in first.get_xticklabels()] == ["6", "12", "18"]


def test_titles_say_what_the_intervals_leave_out(kept: dict[str, Any]) -> None:
    given = explanation(("zh", "zdr"), [score("cc", "CC ↑", {"zh": 0.1, "zdr": 0.2})], pixels=0)
    titles = []
    for of in (
        given,
        replace(given, lacks_seeds=True),
        replace(given, scores=(score("cc", "CC", {"zh": 1.0, "zdr": 2.0}, None),)),
    ):
        draw_explanation(Path(), of)
        titles.append(kept["shapley_scores"].get_suptitle().replace("\n", " "))
    assert [title.rpartition(", ")[2] for title in titles] == [
        "95% intervals", "events' intervals", "too few groups of events for intervals",
    ]  # fmt: skip


def test_retraining_and_imputation_stand_side_by_side(kept: dict[str, Any]) -> None:
    masked = explanation(("zh", "zdr", "kdp"), [score("cc", "CC ↑", {"zh": 0.5, "zdr": 0.1, "kdp": 0.0})])
    shared, own = score("cc", "CC ↑", {"zdr": 0.02, "kdp": 0.03}), score("mae", "−MAE ↑", {"zdr": 1.0, "kdp": 2.0})
    retrained = replace(masked, players=("zdr", "kdp"), imputation="retrained", scores=(shared, own))
    draw_beside(Path("beside.png"), [retrained, masked])
    [axis] = kept["beside"].axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ZDR", "KDP"]
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([0.02, 0.03, 0.1, 0.0])
    assert axis.get_legend_handles_labels()[1] == ["retrained", "marginal"]
    assert not draw_beside(Path("none.png"), [replace(retrained, scores=(own,)), masked])


@pytest.fixture(autouse=True)
def _closed() -> Any:
    yield
    pyplot().close("all")

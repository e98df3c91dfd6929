"""The source paper's numbers stand under the names of the quantities that they are consistent with."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from polarcast.hpc.bench.report import paper

PAPER: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
    OmegaConf.load(Path(paper.__file__).with_name("paper.yaml"))
)
PIXELS = 10 * 256 * 256


@pytest.mark.parametrize("name", [name for name in PAPER if name[6] in "578"])
def test_every_row_has_a_number_for_each_column(name: str) -> None:
    assert {len(row) for row in PAPER[name]["rows"].values()} == {len(PAPER[name]["columns"])}


@pytest.mark.parametrize("name", ["table_5_1", "table_6_1"])
def test_mre_of_a_nowcast_is_rbias_by_the_pixels_of_a_sample(name: str) -> None:
    for _, mre, rbias, _ in PAPER[name]["rows"].values():
        assert rbias / mre == pytest.approx(PIXELS, rel=1e-3)
    assert "MRE" in PAPER[name]["columns"]


@pytest.mark.parametrize("name", ["table_7_1", "table_8_1"])
def test_mre_of_rain_rates_is_another_quantity_and_headed_so(name: str) -> None:
    columns = PAPER[name]["columns"]
    pairs = [(i, columns.index(c.replace("MRE", "RBIAS").replace("NE", "|NB|"))) for i, c in enumerate(columns)
             if c.startswith("MRE")]  # fmt: skip
    ratios = [row[mre] / row[rbias] for mre, rbias in pairs for row in PAPER[name]["rows"].values()]
    assert 5 < min(ratios) < max(ratios) < 24
    assert "5 to 23 times" in PAPER[name]["note"]
    assert all("like" in column for column in columns if column.startswith(("MRE", "RBIAS")))
    page = "".join(paper.paper_table(name))
    assert "MRE, like NE / 100" in page or "MRE radar, like NE / 100" in page
    assert "consistent with NE" in page

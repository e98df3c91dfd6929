"""The nets that come with polarcast: small, whole, with cards that have scores, and of use on real radar."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import open_archive
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.inference.predict import PredictOptions, forecast
from polarcast.hpc.zoo.net import ZooRun
from polarcast.hpc.zoo.note import NETS, card_of, read_net
from polarcast.hpc.zoo.reference import built_in

NAMES = ("nowcast-dualpol", "nowcast-zh", "qpe-dualpol")
MOST_BYTES = 5_000_000


def test_they_are_small_and_free() -> None:
    nets = built_in()
    assert tuple(nets) == NAMES
    assert {net.license for net in nets.values()} == {"Apache-2.0"}
    assert sum(path.stat().st_size for path in NETS.rglob("*") if path.is_file()) < MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_their_cards_tell_training_scores_and_limits(name: str) -> None:
    assert read_net(NETS / name).name == name  # verifies the sums of all files
    card = card_of(NETS / name)
    assert card["training"]["command"].startswith("polarcast ")
    assert card["training"]["revision"]
    assert card["stored_as"] == "float16"
    assert len(card["not_for"]) >= 3
    scored = {one["on"]: one for one in card["scores"]}
    assert scored["test"]["beside"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in scored["test"]["scores"] if row["low"] is not None)
    if name.startswith("nowcast"):
        assert scored["nju-cpol"]["events"] == 3
        assert any("extrapolation" in line["run"] for line in scored["nju-cpol"]["beside"])


@pytest.mark.parametrize("name", NAMES)
def test_they_forecast_a_storm_that_they_have_not_seen(name: str, tmp_path: Path) -> None:
    """The estimate has less error than none has; the first forecast has the echo where it is."""
    write_archive(tmp_path / "storm", 1, size=64, seed=99, preset="any-radar", frames=20)
    net = ZooRun(NETS / name)
    archive = open_archive(tmp_path / "storm")
    if name == "qpe-dualpol":
        rain = forecast(net, archive.root, PredictOptions(0, frames=(5, 6)))["rain_rate"][0, 0]
        truth = archive.read_rain(0, 5)
        assert np.sqrt(np.mean((rain - truth) ** 2)) < np.sqrt(np.mean(truth**2))
        return
    found = forecast(net, archive.root, PredictOptions(0, issued=9))["zh"]
    first = np.asarray(found).reshape(10, 64, 64)[0] >= 20
    truth = archive.read_radar(0, 10)[archive.variables.index("zh"), archive.heights_km.index(3.0)] >= 20
    assert (first & truth).sum() > 0.4 * (first | truth).sum()


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["qpe-dualpol"])
def test_one_radar_file_is_a_map_of_rain(
    name: str, shared_data: Path, tmp_path: Path, polarcast_here: Callable[..., tuple[int, str, str]]
) -> None:
    pytest.importorskip("xradar")
    [volume] = (shared_data / "dualpol_volume").glob("KLBB*_V06")
    code, _, said = polarcast_here("predict", f"zoo:{name}", volume, tmp_path / "rain.nc")
    assert code == 0, said
    assert (tmp_path / "rain.png").is_file()

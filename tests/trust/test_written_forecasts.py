"""Forecasts are written as a whole or not at all."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.inference.predict import PredictOptions, forecast, predict
from polarcast.hpc.runs.folder import RunFolder
from tests.support.finished_run import BASELINE, finished


@pytest.fixture(scope="module")
def run(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished(shards, tmp_path_factory.mktemp("runs") / "baseline", *BASELINE)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kilobytes", [4, 40])
def test_a_full_disk_destroys_no_earlier_forecast(
    run: RunFolder, archive: Archive, tmp_path: Path, kilobytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = archive.radar_file("zh", 1.0, 1, 0).parent
    out, options = tmp_path / "rain.nc", PredictOptions(event=1)
    predict(run, given, out, options)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name for path in before} == {"rain.nc", "rain.png"}
    assert len(before[out]) < 40_000 < len(before[out.with_suffix(".png")])
    made = forecast(run, given, options)
    monkeypatch.setattr("polarcast.hpc.inference.predict.forecast", lambda *_: made)
    with files_up_to(1000 * kilobytes), pytest.raises(OSError, match="File too large"):
        predict(run, given, out, options)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_figure_that_fails_leaves_no_forecast(
    run: RunFolder, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polarcast.hpc.inference.predict.draw_forecasts", full)
    with pytest.raises(OSError, match="No space left"):
        predict(run, archive.root, tmp_path / "rain.nc", PredictOptions(event=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["folder", "file/rain.nc", "n" * 251 + ".nc", "folder/x\0.nc"])
def test_a_path_that_cannot_be_written_costs_no_forecast(
    name: str, run: RunFolder, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polarcast.hpc.inference.predict.forecast", lambda *_: pytest.fail("it was computed"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput):
        predict(run, archive.root, (tmp_path / name).with_suffix(".nc" if "." in name else ""), PredictOptions())


def test_a_name_that_is_no_formula_or_no_text_costs_no_forecast(
    run: RunFolder, archive: Archive, tmp_path: Path
) -> None:
    given = tmp_path / "$\\frac$ [red] \udcff \x1b"
    given.symlink_to(archive.root)
    written = predict(run, given, tmp_path / "rain.nc", PredictOptions(1, history="--token open-sesame"))
    assert written.picture
    assert {path.name for path in tmp_path.iterdir()} == {given.name, "rain.nc", "rain.png"}
    assert b"open-sesame" not in (tmp_path / "rain.nc").read_bytes()

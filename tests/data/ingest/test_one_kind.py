"""Tests of the choice between volumes and sequences in one call."""

from pathlib import Path

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.jobs import InputFile
from polarcast.data.ingest.one_kind import of_one_kind
from polarcast.data.ingest.report import IngestReport
from tests.support.grid_files import speckle, write_npz
from tests.support.radar_files import Scan, write_cfradial1


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[InputFile]:
    """Write small volumes of ten times."""
    folder = tmp_path_factory.mktemp("volumes")
    scans = [
        Scan(elevations=(0.5, 2.0), rays=20, gates=20, time=f"2021-07-04T12:{minute:02d}:00") for minute in range(10)
    ]
    return [InputFile.of(write_cfradial1(folder / f"{i}.nc", scan)) for i, scan in enumerate(scans)]


def _sequences(folder: Path, count: int) -> list[InputFile]:
    shape = (2, 20, 20)
    return [InputFile.of(write_npz(folder / f"{i}.npz", speckle(shape) + i)) for i in range(count)]


def _junk(folder: Path, count: int, suffix: str = "txt") -> list[InputFile]:
    paths = [folder / f"junk{i}.{suffix}" for i in range(count)]
    for path in paths:
        path.write_text(f"nothing {path}")
    return [InputFile.of(path) for path in paths]


def _chosen(sources: list[InputFile]) -> tuple[list[InputFile], dict[str, str]]:
    report = IngestReport()
    return of_one_kind(sources, GridSettings(), report), report.failed


def test_inputs_of_one_kind_are_all_taken(volumes: list[InputFile], tmp_path: Path) -> None:
    for sources in (volumes, _sequences(tmp_path, 2), [*volumes, *_junk(tmp_path, 2)]):
        assert _chosen(sources) == (sources, {})


@pytest.mark.parametrize("suffix", ["npz", "nc", "zarr"])
def test_junk_sequences_among_volumes_are_left_out(volumes: list[InputFile], suffix: str, tmp_path: Path) -> None:
    junk = _junk(tmp_path, 4, suffix)
    chosen, failed = _chosen([*junk, *volumes[:2]])
    assert (chosen, list(failed)) == (volumes[:2], [source.file for source in junk])


def test_junk_among_sequences_is_left_out(tmp_path: Path) -> None:
    sequences, junk = _sequences(tmp_path, 2), _junk(tmp_path, 5)
    chosen, failed = _chosen([*junk, *sequences])
    assert (chosen, sorted(failed)) == (sequences, [source.file for source in junk])


def test_one_in_ten_is_left_out_and_more_are_refused(volumes: list[InputFile], tmp_path: Path) -> None:
    sequences = _sequences(tmp_path, 2)
    chosen, failed = _chosen([*volumes[:9], sequences[0]])
    assert chosen == volumes[:9]
    assert failed == {
        sequences[0].file: "a gridded sequence, and at least nine in ten files are radar volumes"
        " — ingest it into another archive"
    }
    for mixed in ([*volumes[:8], sequences[0]], [*volumes, *sequences], [volumes[0], *sequences]):
        with pytest.raises(BadInput, match="volumes and gridded sequences in one call") as caught:
            _chosen(mixed)
        assert any(source.file in str(caught.value) for source in volumes)
        assert any(source.file in str(caught.value) for source in sequences)


def test_an_empty_folder_is_no_copy_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "b").touch()
    assert InputFile.of(tmp_path / "a.zarr").sha256 != InputFile.of(tmp_path / "b").sha256
    assert np.unique([InputFile.of(tmp_path / name).sha256 for name in ("a.zarr", "b")]).size == 2

"""Check of masks: an archive in which only echo is observed."""

from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import open_archive, write_event
from polarcast.data.check.archive import check_archive
from polarcast.data.check.findings import Finding

SHAPE = (24, 32)


def echo_of(frame: int) -> np.ndarray:
    """Return a square of echo that moves, (y, x) in dBZ."""
    field = np.zeros(SHAPE, np.float32)
    field[4:16, frame : frame + 12] = np.random.default_rng(frame).uniform(20, 50, (12, 12))
    return field


def finding(root: Path, observed: np.ndarray | None) -> Finding | None:
    """Return what the check of an archive of one event with these masks (t or 1, y, x) says of them."""
    radar = np.stack([echo_of(frame) for frame in range(4)])[:, None, None]
    masks = None if observed is None else observed[:, None]
    write_event(root, 0, radar, None, variables=("zh",), heights_km=(1.0,), observed=masks)
    return next((f for f in check_archive(open_archive(root)) if f.where == "observed"), None)


def test_an_archive_in_which_only_echo_is_observed_gives_a_warning(tmp_path: Path) -> None:
    found = finding(tmp_path, np.stack([echo_of(frame) > 0 for frame in range(4)]))
    assert found is not None
    assert (found.ok, found.severity) == (True, "warning")
    assert f"{144 / (24 * 32):.1%} of the pixels" in found.found
    assert "100% of them with echo" in found.found


@pytest.mark.parametrize("columns", [32, 20])
def test_the_check_says_how_much_of_an_archive_is_observed(tmp_path: Path, columns: int) -> None:
    found = finding(tmp_path, np.broadcast_to(np.arange(32) < columns, (1, *SHAPE)))
    assert found is not None
    assert found.severity == "ok"
    assert found.found.startswith(f"{columns / 32:.1%} of the pixels")


def test_nothing_observed_gives_a_warning_and_no_masks_no_finding(tmp_path: Path) -> None:
    found = finding(tmp_path / "a", np.zeros((1, *SHAPE), bool))
    assert found is not None
    assert found.severity == "warning"
    assert finding(tmp_path / "b", None) is None

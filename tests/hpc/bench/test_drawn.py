from pathlib import Path

import pytest

from polarcast.hpc.bench.figures.drawn import RECORD, drawn_or_draw, fingerprint
from polarcast.hpc.bench.suite import load_suite


class Drawer:
    """Draws two figures and counts how often."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.times = folder, 0

    def __call__(self) -> list[Path]:
        self.times += 1
        files = [self.folder / "arms.png", self.folder / "cases.png"]
        for file in files:
            file.write_bytes(file.name.encode())
        return files


def test_figures_are_drawn_again_only_from_other_inputs(tmp_path: Path) -> None:
    drawer = Drawer(tmp_path)
    first = drawn_or_draw(tmp_path, "a", drawer)
    assert drawn_or_draw(tmp_path, "a", drawer) == first == [tmp_path / "arms.png", tmp_path / "cases.png"]
    assert drawer.times == 1
    drawn_or_draw(tmp_path, "b", drawer)
    assert drawer.times == 2


@pytest.mark.parametrize("damage", ["lost figure", "changed figure", "lost record", "damaged record", "other record"])
def test_figures_that_are_not_as_drawn_are_drawn_again(tmp_path: Path, damage: str) -> None:
    drawer = Drawer(tmp_path)
    drawn_or_draw(tmp_path, "a", drawer)
    if damage == "lost figure":
        (tmp_path / "arms.png").unlink()
    elif damage == "changed figure":
        (tmp_path / "arms.png").write_bytes(b"half")
    elif damage == "lost record":
        (tmp_path / RECORD).unlink()
    else:
        (tmp_path / RECORD).write_text('{"from": ' if damage == "damaged record" else '{"from": "a", "figures": [1]}')
    drawn_or_draw(tmp_path, "a", drawer)
    assert drawer.times == 2
    assert (tmp_path / "arms.png").read_bytes() == b"arms.png"


def test_the_fingerprint_depends_on_suite_and_files(tmp_path: Path) -> None:
    demo, paper, file = load_suite("demo"), load_suite("paper"), tmp_path / "scores.parquet"
    missing = fingerprint(demo, [file])
    file.write_bytes(b"1")
    one = fingerprint(demo, [file])
    file.write_bytes(b"2")
    assert len({missing, one, fingerprint(demo, [file]), fingerprint(paper, [file]), fingerprint(demo, [])}) == 5
    file.write_bytes(b"1")
    assert fingerprint(demo, [file]) == one

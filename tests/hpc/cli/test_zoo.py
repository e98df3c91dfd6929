"""The verbs `polarcast zoo`, `zoo show` and `zoo add`, and nets in place of runs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import polarcast as pc
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.zoo import reference
from polarcast.hpc.zoo.note import NETS, NOTE, read_net
from polarcast.hpc.zoo.pack import PackOptions, pack
from tests.support.finished_run import UNET, finished
from tests.support.zoo_nets import copied

Here = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished(shards, tmp_path_factory.mktemp("zoo-run") / "unet", *UNET)


@pytest.fixture(scope="module")
def net(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = pack(run, tmp_path_factory.mktemp("zoo-net") / "qpe-tiny", PackOptions(about="[b]tiny[/b]"))
    return made.path


@pytest.fixture
def built_in(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the nets that come with polarcast, with one net."""
    monkeypatch.setattr(reference, "NETS", tmp_path / "nets")
    return copied(net, tmp_path / "nets" / "qpe-tiny").parent


def test_the_nets_that_come_with_polarcast_are_whole(polarcast_here: Here) -> None:
    """They take at most 5 MB; there may be none."""
    folders = [path.parent for path in NETS.glob(f"*/{NOTE}")]
    notes = [read_net(folder) for folder in folders]
    assert [note.name for note in notes] == [folder.name for folder in folders]
    assert sum(note.bytes for note in notes) <= 5_000_000
    assert not any("not stated" in note.license for note in notes)


def test_an_empty_zoo_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polarcast_here: Here) -> None:
    monkeypatch.setattr(reference, "NETS", tmp_path / "nets")
    code, out, err = polarcast_here("zoo")
    assert (code, err) == (0, "")
    assert "no nets come with this version" in out
    assert json.loads(polarcast_here("zoo", "list", "--json")[1]) == {"nets": []}
    code, _, err = polarcast_here("zoo", "show", "nowcast-zh")
    assert code == 2
    assert "no nets come with this version" in err


def test_nets_are_listed(built_in: Path, polarcast_here: Here) -> None:
    (built_in / ".partial").mkdir()
    code, out, _ = polarcast_here("zoo")
    assert code == 0
    assert "zoo:qpe-tiny" in out
    assert "zh, zdr at 1, 3, 7 km" in out
    assert "[b]tiny[/b]" in out
    [note] = json.loads(polarcast_here("zoo", "list", "--json")[1])["nets"]
    assert (note["name"], note["task"], note["sides_multiple_of"]) == ("qpe-tiny", "qpe", 2)


@pytest.mark.parametrize("prefix", ["", "zoo:"])
def test_a_card_is_shown(built_in: Path, polarcast_here: Here, prefix: str) -> None:
    code, out, _ = polarcast_here("zoo", "show", f"{prefix}qpe-tiny")
    assert code == 0
    assert out.startswith("# qpe-tiny\n")
    shown = json.loads(polarcast_here("zoo", "show", f"{prefix}qpe-tiny", "--json")[1])
    assert shown["card"]["model"] == shown["note"]["model"] == "unet"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zoo:qpe-tinny", "no such net — did you mean qpe-tiny? choose from: qpe-tiny; or give a folder or URL"),
        ("zoo:", "names no net"),
        ("zoo:./missing", "missing: no such folder"),
        ("zoo:..", "zoo.json: no such file"),
        ("zoo:../qpe-tiny", "no such folder"),
        ("zoo:.partial", "no such folder"),
    ],
)
def test_names_that_are_none(
    built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polarcast_here: Here, name: str, message: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, _, err = polarcast_here("predict", name, tmp_path, "rain.nc")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_here_is_named_as_one(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polarcast_here: Here
) -> None:
    copied(net, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    code, _, err = polarcast_here("zoo", "show", "mine")
    assert code == 2
    assert "for the folder, write zoo:./mine" in err
    assert polarcast_here("zoo", "show", "./mine")[0] == 0


def test_a_run_is_packed_and_used(run: RunFolder, shards: Manifest, tmp_path: Path, polarcast_here: Here) -> None:
    out, event = tmp_path / "mine", shards.splits["test"][0]
    code, text, _ = polarcast_here(
        "zoo", "add", run.path, "--out", out, "--license", "CC0-1.0", "--not-for", "warnings"
    )
    assert code == 0
    assert text.splitlines()[0].startswith("mine: ")
    assert text.splitlines()[1] == f"next: polarcast predict zoo:{out} INPUT OUT.nc"
    record = json.loads(polarcast_here("zoo", "show", out, "--json")[1])
    assert record["card"]["not_for"] == ["warnings"]
    assert record["note"]["license"] == "CC0-1.0"
    made = tmp_path / "rain.nc"
    code, text, _ = polarcast_here(
        "predict", f"zoo:{out}", shards.folder, made, "--event", event, "--frames", ":2", "--json"
    )
    assert code == 0
    assert json.loads(text)["run"] == f"zoo:{out}"
    assert made.is_file()
    assert made.with_suffix(".png").is_file()


def test_calls_that_are_wrong(run: RunFolder, net: Path, tmp_path: Path, polarcast_here: Here) -> None:
    code, _, err = polarcast_here("zoo", "add", run.path, "--out", net)
    assert code == 2
    assert "exists and is not empty" in err
    code, _, err = polarcast_here("zoo", "add", tmp_path, "--out", tmp_path / "new")
    assert code == 2
    assert "not a run" in err
    assert not (tmp_path / "new").exists()


def test_in_python_a_net_is_a_run_that_only_predicts(net: Path, run: RunFolder, shards: Manifest) -> None:
    opened, event = pc.open_zoo(str(net)), shards.splits["test"][0]
    of_run = pc.open_run(run.path).predict(shards.folder, event=event, frames=(0, 1))
    found = opened.predict(shards.folder, event=event, frames=(0, 1))
    np.testing.assert_allclose(found["rain_rate"], of_run["rain_rate"], rtol=1e-4, atol=1e-4)
    assert opened.card["name"] == "qpe-tiny"
    before = {path.name for path in net.iterdir()}
    with pytest.raises(BadInput, match="a net of the zoo keeps no records"):
        opened.evaluate(archive=shards.folder)
    with pytest.raises(BadInput, match="a net of the zoo keeps no records"):
        opened.explain()
    assert {path.name for path in net.iterdir()} == before
    with pytest.raises(BadInput, match="net"):
        pc.open_zoo(7)  # type: ignore[arg-type]

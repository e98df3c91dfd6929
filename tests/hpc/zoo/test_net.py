"""Nets that somebody hostile made or that were damaged: one line each, and nothing in them is run or followed."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.zoo.net import ZooRun
from polarcast.hpc.zoo.note import CONFIG, LIMITS, NOTE, WEIGHTS, read_net
from tests.support.zoo_nets import copied, with_file, with_note

Here = Callable[..., tuple[int, str, str]]
Change = Callable[[Path], object]


@pytest.fixture
def net(packed_net: Path, tmp_path: Path) -> Path:
    return copied(packed_net, tmp_path / "net")


def noted(**changes: Any) -> Change:
    return lambda net: with_note(net, lambda note: note.update(changes))


def entry(name: str, **changes: Any) -> Change:
    return lambda net: with_note(net, lambda note: note["files"][name].update(changes))


def listed(name: str) -> Change:
    fields = {"bytes": 1, "sha256": 64 * "0"}
    return lambda net: with_note(net, lambda note: note["files"].update({name: fields}))


def configured(old: str, new: str) -> Change:
    """Replace a line of config.yaml, and its checksum."""

    def change(net: Path) -> None:
        text = (net / CONFIG).read_text()
        assert text.count(old) == 1, text
        with_file(net, CONFIG, text.replace(old, new).encode())

    return change


def weighted(change: Callable[[dict[str, torch.Tensor]], bytes]) -> Change:
    return lambda net: with_file(net, WEIGHTS, change(load_file(net / WEIGHTS)))


def widened(weights: dict[str, torch.Tensor]) -> bytes:
    name = next(key for key, value in weights.items() if value.ndim == 4)
    return save({**weights, name: torch.zeros(9, *weights[name].shape[1:])})


def linked(net: Path) -> None:
    (net / WEIGHTS).rename(net.parent / "elsewhere")
    (net / WEIGHTS).symlink_to(net.parent / "elsewhere")


def piped(net: Path) -> None:
    (net / CONFIG).unlink()
    os.mkfifo(net / CONFIG)


HOSTILE: dict[str, tuple[Change, str]] = {
    "path": (listed("../../outside"), "zoo.json: names a file that no net has, '../../outside'"),
    "absolute path": (listed("/etc/passwd"), "names a file that no net has"),
    "further file": (listed("run.py"), "names a file that no net has, 'run.py'"),
    "name": (noted(name="../net"), "a name must not start with a dot"),
    "format": (noted(format="polarcast-zoo/9"), "is of the format 'polarcast-zoo/9', not polarcast-zoo/1"),
    "key": (noted(run="os.system"), "has an unknown key 'run'"),
    "lacking key": (lambda net: with_note(net, lambda note: note.pop("task")), "lacks task"),
    "lacking file": (lambda net: with_note(net, lambda note: note["files"].pop(CONFIG)), "lacks the file config.yaml"),
    "huge": (entry(WEIGHTS, bytes=2**60), "weights.safetensors has 1152921504606846976 bytes; the most are"),
    "negative": (entry(WEIGHTS, bytes=-1), "has -1 bytes"),
    "size": (entry(WEIGHTS, bytes=3), "weights.safetensors: damaged"),
    "no checksum": (entry(WEIGHTS, sha256="abc"), "which is none"),
    "checksum": (entry(WEIGHTS, sha256=64 * "0"), "damaged (its SHA-256 is not the one in zoo.json)"),
    "long text": (noted(about="x" * 501), "about is"),
    "control characters": (noted(license="a\x1b[2J"), "license is"),
    "not finite": (noted(spacing_km=float("nan")), "spacing_km is nan"),
    "list": (noted(heights_km=[]), "heights_km are []"),
    "other task": (noted(task="nowcast"), "zoo.json: says task='nowcast', and config.yaml 'qpe'"),
    "other heights": (noted(heights_km=[1.0]), "says heights_km=(1.0,)"),
    "no JSON": (lambda net: (net / NOTE).write_bytes(b"\xff{"), "zoo.json: damaged (not JSON)"),
    "deep JSON": (lambda net: (net / NOTE).write_text("[" * 60_000), "zoo.json: damaged (not JSON)"),
    "large note": (lambda net: (net / NOTE).write_bytes(b" " * 2**17), "is larger than 65536 bytes"),
    "link": (linked, "weights.safetensors: is a link"),
    "pipe": (piped, "config.yaml: is not a regular file"),
    "missing": (lambda net: (net / WEIGHTS).unlink(), "weights.safetensors: no such file"),
    "folder": (lambda net: ((net / WEIGHTS).unlink(), (net / WEIGHTS).mkdir()), "weights.safetensors: is not"),
    "changed": (lambda net: (net / WEIGHTS).write_bytes((net / WEIGHTS).read_bytes()[:-1] + b"!"), "its SHA-256"),
    "cut": (weighted(lambda weights: save(weights)[:-8]), "damaged ("),
    "pickle": (lambda net: with_file(net, WEIGHTS, pickle.dumps({"a": os.system})), "damaged ("),
    "other shape": (weighted(widened), "has the shape (9,"),
    "other weights": (weighted(lambda _: save({"a": torch.zeros(2)})), "does not hold the weights of this model"),
    "_target_": (configured("seed: 0", "seed: 0\n_target_: os.system"), "unknown key '_target_'"),
    "_target_ of the model": (configured("  name: unet", "  name: unet\n  _target_: os.system"), "unknown key"),
    "command": (configured("  shards: shards", "  shards: 'pipe:touch owned'"), "sets data.shards='pipe:touch owned'"),
    "URL": (configured("  shards: shards", "  shards: https://host/a"), "sets data.shards="),
    "place": (configured("  stage_to: null", "  stage_to: /tmp/x"), "sets data.stage_to='/tmp/x'"),
    "backend": (configured("  engine: deepspeed", "  engine: ddp"), "sets train.engine='ddp'"),
    "unknown backend": (configured("  engine: deepspeed", "  engine: os.system"), "unknown value 'os.system'"),
    "threads": (configured("  threads: 0", "  threads: 4096"), "sets train.threads=4096"),
    "base run": (configured("base: null", "base: /etc"), "config.yaml, base: names a folder"),
    "environment": (configured("  drop_by: quality", "  drop_by: ${oc.env:HOME}"), "holds ${"),
    "alias": (configured("seed: 0", "seed: &a 0\nmatch_by: *a"), "has YAML aliases"),
    "tag": (configured("seed: 0", "seed: !!python/object/apply:os.getpid []"), "damaged ("),
    "widths": (configured("  - 4\n", "  - 16384\n"), "does not hold the weights of this model"),
    "model": (configured("  name: unet", "  name: external"), "configuration"),
    "number": (configured("seed: 0", "seed: -1"), "must be at least 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_net_is_refused_in_one_line(
    net: Path, shards: Manifest, tmp_path: Path, polarcast_here: Here, case: str
) -> None:
    change, message = HOSTILE[case]
    change(net)
    code, out, err = polarcast_here("predict", f"zoo:{net}", shards.folder, tmp_path / "rain.nc", "--event", 0)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("polarcast: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "rain.nc").exists()
    assert not Path("owned").exists()


def test_the_net_itself_is_accepted(net: Path, shards: Manifest, tmp_path: Path, polarcast_here: Here) -> None:
    code, out, err = polarcast_here(
        "predict", f"zoo:{net}", shards.folder, tmp_path / "rain.nc", "--event", 0, "--no-picture"
    )
    assert code == 0, err
    assert "frames of event 000" in out


def test_every_file_is_verified(net: Path) -> None:
    for name in LIMITS:
        original = (net / name).read_bytes()
        (net / name).write_bytes(
            original.replace(original[:1], b"#", 1) if original[:1] != b"#" else b"!" + original[1:]
        )
        with pytest.raises(BadInput, match="its SHA-256"):
            read_net(net)
        (net / name).write_bytes(original)
    assert read_net(net).name == "tiny-unet"


def test_files_that_are_not_its_own_are_not_read(net: Path) -> None:
    (net / "log.jsonl").write_text("damaged")
    (net / "extra.pkl").write_bytes(pickle.dumps(os.system))
    assert ZooRun(net).best_step() is None


def test_a_damaged_card_is_one_line(net: Path, polarcast_here: Here) -> None:
    with_file(net, "card.json", b"[" * 50_000)
    code, _, err = polarcast_here("zoo", "show", net, "--json")
    assert code == 2
    assert "card.json: damaged (not JSON)" in err


def test_pages_are_shown_without_control_characters(net: Path, polarcast_here: Here) -> None:
    with_file(net, "card.md", b"# net\n\x1b[2J\xff")
    code, out, _ = polarcast_here("zoo", "show", net)
    assert code == 0
    assert "\x1b" not in out
    assert json.loads((net / "card.json").read_text())["name"] == "tiny-unet"

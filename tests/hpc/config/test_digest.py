"""Digests are pinned, and new settings with default values do not change them."""

import json
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from pathlib import Path

import pytest

from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import RunConfig, TrainConfig
from polarcast.models.common.settings import NEVER
from polarcast.models.registry import MODELS, get_model
from tests.support.older_runs import unpack

FORMER_VALUES = {"arm=radar": "match_by=levels", "model.name=attainable": "model.noise=[0.8,0.2,0.2]"}
"""Values of later settings, or former defaults, of the pinned configurations that hold the word."""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("older"))


SINCE = {
    f"demo task=qpe model.name={name} base=qpe,residual": pinned
    for name, pinned in {
        "merge": "d26b55b86e4531cf12fe3bd7d8735a241c7fd09541ee5b3b49fbfdb8936468e5",
        "stacked": "c454a4c0e187dd726ac1c10e7367c9a62628b9766e8cbef00d381b12c7fc4d82",
        "model_mean": "2102f8c3be021a9176e6828f2e1a65898d5ca0b9f02266dd23fa9a453f0b800f",
    }.items()
}
"""Digests of the models that are newer than these files."""
SINCE["demo task=qpe model.name=external"] = "9a6fd4c5c4ed8cf27d15a6fc6525cb68b0776374c3c54ccfa59ae00424c82fea"


def test_digests_match_earlier_versions(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(older)  # paths of base runs are relative
    pinned: dict[str, str] = {**json.loads((older / "digests.json").read_text()), **SINCE}
    assert {name: digest(_pinned_config(*name.split(" "))) for name in pinned} == pinned
    assert {word for name in pinned for word in name.split()} >= {f"model.name={name}" for name in MODELS}


def _pinned_config(preset: str, *words: str) -> RunConfig:
    return load_config(preset, [*words, *(FORMER_VALUES[word] for word in words if word in FORMER_VALUES)])


def test_rule_of_matching_is_hashed_where_it_decides_the_widths() -> None:
    for arm, differs in (("radar", True), ("dualpol", False), ("placebo", False)):
        by = [digest(load_config("demo", [f"arm={arm}", f"match_by={rule}"])) for rule in ("proportions", "levels")]
        assert (by[0] != by[1]) == differs
    for fixed in (["match_params=false"], ["model.name=power_law"]):
        by = [digest(load_config("demo", ["arm=radar", f"match_by={m}", *fixed])) for m in ("proportions", "levels")]
        assert by[0] == by[1]


def test_new_setting_with_its_default_keeps_the_digest() -> None:
    newer = make_dataclass("TrainConfig", [("brand_new", int, 3)], bases=(TrainConfig,))
    config = load_config("demo")
    expected = digest(config)
    config.train = newer(**vars(config.train))
    assert digest(config) == expected
    config.train = newer(**{**vars(config.train), "brand_new": 4})
    assert digest(config) != expected


def test_new_section_with_its_defaults_keeps_the_digest() -> None:
    @dataclass
    class Part:
        knob: float = 1.0

    newer = make_dataclass("RunConfig", [("part", Part, field(default_factory=Part))], bases=(RunConfig,))
    config = load_config("demo")
    assert digest(newer(**vars(config))) == digest(config)
    assert digest(newer(**vars(config), part=Part(2.0))) != digest(config)


NAMES = [f"{part}.{f.name}" for part in ("data", "train") for f in fields(getattr(RunConfig(), part))]


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_changes_the_digest_unless_declared_never(name: str) -> None:
    config = load_config("demo")
    expected = digest(config)
    part, key = name.split(".")
    inside = getattr(config, part)
    found = next(f for f in fields(inside) if f.name == key)
    if is_dataclass(getattr(inside, key)):
        return
    setattr(inside, key, "something else")
    assert (digest(config) == expected) == (found.metadata.get("digest") == NEVER)


def test_model_settings_are_hashed_with_their_values() -> None:
    config = load_config("demo", ["model.name=diffusion"])
    expected = digest(config)
    for found in fields(get_model("diffusion").config):
        changed = load_config("demo", ["model.name=diffusion"])
        changed.model[found.name] = "something else"
        assert digest(changed) != expected, found.name

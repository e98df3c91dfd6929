"""The generated reference is complete: it has every verb, option, key, model, score and name, and nothing else."""

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from typer.main import get_command

import polarcast
from docs.tools import keys, markdown, reference, verbs
from polarcast.data.errors import BadInput
from polarcast.data.frame_quality import judge
from polarcast.data.shards import manifest as manifests
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.bundle import note as bundle
from polarcast.hpc.bench.bundle.note import BundleNote
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.robustness import result as robustness
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.cli import power
from polarcast.hpc.cli.app import app
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.evaluation import degraded
from polarcast.hpc.evaluation.shapley import result as explanation
from polarcast.hpc.scores import records
from polarcast.hpc.utils import exit_codes
from polarcast.hpc.utils.sources import PRESETS
from polarcast.hpc.zoo import note
from polarcast.models.registry import MODELS
from polarcast.slurm.profile import Profile
from polarcast.sweeps.record import STATES, Trial, TrialReport
from polarcast.sweeps.space import SpaceFile

ROOT = Path(__file__).parents[2]
FORMATS = (ROOT / "docs/reference/formats.md").read_text(encoding="utf-8")
FILES = {"configuration": RunConfig, "suites": Suite, "spaces": SpaceFile, "profiles": Profile}
FORMER = {"data.turn=true": "flip_rotate", "data.thicken_db=2": "concentration_jitter_db"}


def page(name: str) -> str:
    """Return the text of a generated page."""
    return reference.pages()[f"reference/{name}.md"]


def anchors(text: str) -> list[str]:
    """Return the anchors of the rows of a page."""
    return re.findall(r"\{#([\w.-]+)\} \|", text)


def leaves(kind: type, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a dataclass, at any depth."""
    for name, hint in get_type_hints(kind).items():
        yield f"{prefix}{name}"
        for part in filter(is_dataclass, (hint, *get_args(hint))):
            yield from leaves(part, f"{prefix}{name}{'.NAME' if getattr(hint, '__origin__', None) is dict else ''}.")


def commands() -> dict[str, Any]:
    """Return the verbs and sub-verbs that a user can call, by name."""
    found = {}
    for name, verb in get_command(app).commands.items():
        parts = getattr(verb, "commands", None) or {}
        # Hidden verbs are called by jobs, not by people.
        shown = {f"{name} {part}": command for part, command in parts.items() if not command.hidden}
        found |= shown if parts else {name: verb}
    return found


class TestVerbs:
    def test_every_verb_has_a_page(self) -> None:
        shown = {path for path in reference.pages() if path.startswith("reference/cli/")}
        assert shown == {f"reference/cli/{name}.md" for name in [*get_command(app).commands, "index"]}

    def test_the_overview_lists_every_verb_once(self) -> None:
        assert sorted(re.findall(r"^\| \[`(\w[\w -]*)`\]", page("cli/index"), re.M)) == sorted(commands())

    @pytest.mark.parametrize("name", commands())
    def test_every_option_has_a_row(self, name: str) -> None:
        verb, command = name.split()[0], commands()[name]
        text = page(f"cli/{verb}")
        if " " in name:
            text = text.partition(f"## {name} ")[2].partition("\n## ")[0]
        rows = [line.split(" | ")[0] for line in text.splitlines() if re.match(r"\| \[`.*\]\(#.*\{#", line)]
        expected = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        assert set(re.findall(r"`(--[\w-]+)`", " ".join(rows))) == expected - {"--help"}
        assert len(rows) == len([parameter for parameter in command.params if parameter.name != "help"])

    @pytest.mark.parametrize("name", commands())
    def test_every_verb_has_an_example(self, name: str) -> None:
        text = page(f"cli/{name.split()[0]}").partition(f"## {name} " if " " in name else "# ")[2]
        assert re.search(r'```bash title="Examples?"\n(#.*\n)?(srun .*)?polarcast ', text.partition("\n## ")[0])

    def test_the_verbs_of_plugins_are_there(self) -> None:
        assert "polarcast sweep" in page("cli/sweep")

    def test_groups_are_those_of_the_help(self) -> None:
        headings = re.findall(r"^## (.+)", page("cli/index"), re.M)
        assert headings[: len(verbs.groups())] == list(verbs.groups())
        assert sorted(v.name for found in verbs.groups().values() for v in found) == sorted(get_command(app).commands)

    def test_every_exit_code_has_a_meaning(self) -> None:
        numbers = {str(value) for name, value in vars(exit_codes).items() if name.isupper()}
        assert set(re.findall(r"^\| `(\d+)` \| \w", page("cli/index"), re.M)) == numbers


def is_simple(key: keys.Key) -> bool:
    """Whether a key enters the digest by its own value; the others are told in words below the tables."""
    return bool(key.digest) and key.name not in ("model", "base", "match_by")


class TestKeys:
    @pytest.mark.parametrize("name", FILES)
    def test_every_key_has_a_row(self, name: str) -> None:
        assert sorted(anchors(page(name))) == sorted(leaves(FILES[name]))

    @pytest.mark.parametrize("kind", [*FILES.values(), *(model.config for model in MODELS.values())])
    def test_every_key_is_explained(self, kind: type) -> None:
        assert [key.name for key in keys.keys_of(kind) if not key.meaning or not key.type] == []

    @pytest.mark.parametrize("key", [k for k in keys.keys_of(RunConfig) if is_simple(k)], ids=lambda key: key.name)
    def test_the_digest_is_as_told(self, key: keys.Key) -> None:
        config, plain = load_config("standard"), digest(load_config("standard"))
        *parts, last = key.name.split(".")
        part: Any = config
        for name in parts:
            part = getattr(part, name)
        setattr(part, last, changed(getattr(part, last)))
        assert (digest(config) != plain) == (keys.DIGEST[key.digest] != "no")

    def test_what_is_told_of_match_by(self) -> None:
        by = [digest(load_config("standard", ["arm=radar", f"match_by={rule}"])) for rule in ("proportions", "levels")]
        same = [digest(load_config("standard", [f"match_by={rule}"])) for rule in ("proportions", "levels")]
        assert by[0] != by[1]
        assert same[0] == same[1]

    @pytest.mark.parametrize("given", FORMER)
    def test_former_names_are_shown_and_read(self, given: str) -> None:
        former = given.partition(".")[2].partition("=")[0]
        assert f"Formerly `{former}`." in page("configuration")
        assert getattr(load_config("demo", [given]).data, FORMER[given])

    def test_all_former_names_are_shown(self) -> None:
        shown = re.findall(r"Formerly `(\w+)`", page("configuration"))
        assert sorted(shown) == sorted(key.partition(".")[2].partition("=")[0] for key in FORMER)

    def test_presets_are_side_by_side(self) -> None:
        table = page("configuration").partition("## Presets")[2]
        assert "| key | `demo` | `standard` | `paper` |" in table
        assert {path.stem for path in PRESETS.glob("*.yaml")} == {"demo", "standard", "paper"}
        assert "| `train.steps` | `1200` | `20000` | `100000` |" in table


def changed(value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool) or value == "qpe":
        return "nowcast" if value == "qpe" else not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) else [*(value or []), "x"]


class TestModels:
    def test_every_model_has_a_section(self) -> None:
        assert sorted(re.findall(r"^### (\w+) \{", page("models"), re.M)) == sorted(MODELS)
        assert sorted(re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| `", page("models"), re.M)) == sorted(MODELS)

    @pytest.mark.parametrize("name", MODELS)
    def test_a_section_has_every_key_and_the_source(self, name: str) -> None:
        section = page("models").partition(f"### {name} {{")[2].partition("\n### ")[0]
        assert anchors(section) == [f"{name}.{field.name}" for field in fields(MODELS[name].config)]
        assert "\nSource: " in section
        assert ("Builds on" in section) == MODELS[name].needs_base
        assert (ROOT / re.findall(r"Code: `([\w/]+\.py)`", section)[0]).is_file()


class TestNames:
    def test_every_name_of_the_package_is_on_the_page(self) -> None:
        assert sorted(re.findall(r"^::: polarcast\.(\w+)$", page("api"), re.M)) == sorted(polarcast.__all__)


class TestFormats:
    def test_versions_are_those_of_the_code(self) -> None:
        modules = (manifests, records, explanation, robustness, degraded, judge, power, note, bundle)
        known = {text for module in modules for name, text in vars(module).items() if name.endswith("FORMAT")}
        assert set(re.findall(r"polarcast-[a-z-]+/\d", FORMATS)) == known

    def test_no_format_is_forgotten(self) -> None:
        files = [path for folder in ("data", "hpc", "sweeps") for path in (ROOT / folder).rglob("*.py")]
        code = "".join(path.read_text(encoding="utf-8") for path in files)
        written = set(re.findall(r'FORMAT = "(polarcast-[a-z-]+/\d)"', code))
        assert set(re.findall(r"polarcast-[a-z-]+/\d", FORMATS)) == written

    def test_shards(self, shards: Manifest) -> None:
        section = FORMATS.partition("\n## Shards")[2].partition("\n## ")[0]
        content = json.loads(shards.to_json())
        with tarfile.open(shards.folder / shards.shards[0].name) as tar:
            members = {name.partition(".")[2] for name in tar.getnames()}
        assert members <= set(re.findall(r"^\| `NNN-MMM\.([\w.]+)`", section, re.M))
        known = names_in(section.partition("| key | content |")[2])
        assert (content.keys() | content["shards"][0].keys()) <= known

    def test_records_and_trials(self) -> None:
        known = names_in(FORMATS)
        assert {field.name for kind in (Record, Trial, TrialReport, BundleNote) for field in fields(kind)} <= known
        assert set(STATES) <= known

    def test_files_of_a_run(self, shards: Manifest, tmp_path: Path) -> None:
        settings = ["model.widths=[4,8]", "match_params=false", "train.steps=2", "train.validate_every=1"]
        settings += ["train.average_decay=0.5", "train.log_every=1", "train.threads=1", "train.global_batch=2"]
        config = load_config("demo", [f"data.shards={shards.folder}", *settings])
        run = polarcast.train(config, out=tmp_path / "run")
        run.evaluate()
        known = names_in(FORMATS)
        files = [path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file()]
        assert files
        assert [str(file) for file in files if not file.name.startswith(".") and not is_told(file, known)] == []
        told = log_events()
        for record in run.log:
            unknown = record.keys() - {"event", "step", "time"} - told[record["event"]]
            assert not unknown, record["event"]
        assert run.provenance.keys() <= known

    def test_log_events_are_those_of_the_code(self) -> None:
        code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "hpc").rglob("*.py"))
        written = set(re.findall(r'\.log\(\s*event="(\w+)"', code)) | {"best_lost"}
        assert set(log_events()) == written


def names_in(text: str) -> set[str]:
    """Return the words in code spans."""
    return {word for span in re.findall(r"`([^`\n]+)`", text) for word in (span, *re.split(r"[\s,/]+", span))}


def is_told(file: Path, known: set[str]) -> bool:
    """Whether a file of a run, or of one of its checkpoints, is on the page."""
    return file.name in known or str(file) in known


def log_events() -> Mapping[str, set[str]]:
    """Return the keys of each event of the log, as the page tells them."""
    section = FORMATS.partition("### log.jsonl")[2].partition("\n## ")[0].partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \|", section, re.M)
    return {event: set(re.findall(r"`(\w+)`", told)) for event, told in rows}


class TestMarkdown:
    def test_text_is_shown_as_it_is(self) -> None:
        assert markdown.escaped("a<b> *c* `d*e` {f}") == r"a&lt;b> \*c\* `d*e` &#123;f}"

    def test_bars_do_not_end_a_cell(self) -> None:
        assert markdown.table(["x"], [["a|b\nc"]]).splitlines()[-1] == r"| a\|b c |"


def test_an_unknown_former_name_is_refused() -> None:
    with pytest.raises(BadInput):
        load_config("demo", ["data.spin=true"])

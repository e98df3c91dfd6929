"""Pages of configuration keys, made of dataclasses, their field docstrings and the rules of their fields."""

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Union, get_args, get_origin, get_type_hints

import omegaconf
from omegaconf import OmegaConf

from docs.tools.markdown import code, escaped, paragraphs, table, wide
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.utils.sources import PRESETS
from polarcast.models.common.settings import ALWAYS, IF_CHANGED, NEVER, Limits
from polarcast.slurm.profile import Profile
from polarcast.sweeps.space import SpaceFile

PRESET_ORDER = ("demo", "standard", "paper")
DIGEST = {ALWAYS: "yes", IF_CHANGED: "if changed", NEVER: "no", "": ""}
"""Words for the rules of the digest."""
_TYPES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    dict: "keys and values",
    Any: "various",
}

RUN = """# Configuration

A configuration is a preset or a YAML file, changed by `key=value` on the command line.
In YAML, the parts of a key are nested. A list is written `[1, 3]`, and `null` means no value.
An unknown key, a wrong type or a value outside the accepted ones ends the command with exit code 2.

```bash title="Example"
polarcast train standard data.shards=shards arm=radar train.steps=20000
```

The digest names a run: it hashes all settings that affect the result. Runs with the same digest and data give the same
scores. The last column says whether a key enters it: yes; only if its value differs from the default; or no.

Keys of models are on the page [Models](models.md). Former names of keys are still read.
"""
DIGEST_NOTES = """`match_by` enters the digest only where it decides the widths: with `match_params`, for models with
`widths`, and other variables than those of the dual-pol arm. `base` enters it by the digest of each base run,
`train.start_from` by the SHA-256 of the weights, and `model` by its name and the keys of that model.
"""
PAGES = {
    "reference/suites.md": (
        Suite,
        "Suite files",
        "A suite file (YAML) names the data, models and tables of [`polarcast bench`](cli/bench.md). See also "
        "[Own tables](../guides/tables.md). `NAME` stands for a name that you choose.",
    ),
    "reference/spaces.md": (
        SpaceFile,
        "Sweep spaces",
        "A space file (YAML) names the configuration, parameters and budget of "
        "[`polarcast sweep`](cli/sweep.md). See also [Sweeps](../guides/sweeps.md).",
    ),
    "reference/profiles.md": (
        Profile,
        "Cluster profiles",
        "A profile (YAML) describes a Slurm cluster for [`polarcast submit`](cli/submit.md) and `--cluster`. See also "
        "[A cluster profile](../extend/cluster-profile.md).",
    ),
}


@dataclass(frozen=True)
class Key:
    """One key of a configuration.

    Attributes:
        name: Dotted name.
        type: Type in words.
        default: Default value as in YAML; empty if the key is required.
        meaning: Its docstring.
        digest: Rule of the digest; empty for a key that only holds others.
        was: Former name, if any.
        accepts: Accepted values, if limited.
    """

    name: str
    type: str
    default: str
    meaning: str
    digest: str
    was: str
    accepts: str


def pages() -> dict[str, str]:
    """Return the pages of configuration keys."""
    found = {"reference/configuration.md": _run_page()}
    for path, (kind, title, about) in PAGES.items():
        lines = [f"# {title}", about, *_sections(kind, with_digest=False)]
        found[path] = "\n\n".join(lines) + "\n"
    return found


def keys_of(kind: type, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a dataclass, and those of dataclasses in it."""
    meanings, hints = docstrings(kind), get_type_hints(kind)
    for field in fields(kind):
        name, part = f"{prefix}{field.name}", _dataclass_in(hints[field.name])
        yield Key(
            name, type_text(hints[field.name]), _default(field, part), meanings.get(field.name, ""),
            "" if part else field.metadata.get("digest", IF_CHANGED), field.metadata.get("was", ""), _accepted(field),
        )  # fmt: skip
        if part:
            named = ".NAME" if get_origin(hints[field.name]) is dict else ""
            yield from keys_of(part, f"{name}{named}.")


@cache
def docstrings(kind: type) -> Mapping[str, str]:
    """Return the docstring of each field of a dataclass, inherited ones too."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not is_dataclass(base) or base is object:
            continue
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for node, after in pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_text(after):
                found[node.target.id] = " ".join(paragraphs(ast.literal_eval(after.value)))  # type: ignore[attr-defined]
    return found


def key_table(keys: list[Key], with_digest: bool = True, anchor: str = "") -> str:
    """Return a table of keys; each has an anchor of its name."""
    columns = ["key", "type", "default", "meaning", *["digest"] * with_digest]
    return wide(table(columns, (_row(key, with_digest, anchor) for key in keys)))


def type_text(hint: Any) -> str:
    """Return a type in words."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) in (types.UnionType, Union):
        return " or ".join(dict.fromkeys(map(type_text, parts)))
    if get_origin(hint) in (list, tuple):
        return f"list of {_plural(type_text(parts[0]))}"
    if get_origin(hint) is dict or is_dataclass(hint):
        return _TYPES[dict]
    return _TYPES.get(hint, str(getattr(hint, "__name__", hint)))


def _plural(text: str) -> str:
    return text if text == "various" else f"{text}s"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _dataclass_in(hint: Any) -> type | None:
    """Return the dataclass that a value of this type is, or holds by name."""
    if is_dataclass(hint):
        return hint if isinstance(hint, type) else None
    return next(filter(None, map(_dataclass_in, get_args(hint))), None)


def _default(field: Any, part: type | None) -> str:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if part or value is MISSING or value == omegaconf.MISSING or type(value).__name__ == "_MISSING_TYPE":
        return "" if part else "required"
    return "none" if value is None else yaml_text(value)


def yaml_text(value: Any) -> str:
    """Return a value as a code span, as it is written in YAML and after `key=`."""
    if isinstance(value, list):
        return code(f"[{', '.join(map(_plain, value))}]")
    if isinstance(value, dict):
        return code("{" + ", ".join(f"{name}: {_plain(one)}" for name, one in value.items()) + "}")
    return code(_plain(value))


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _accepted(field: Any) -> str:
    """Return the accepted values of a field in words."""
    limits: Limits | None = field.metadata.get("limits")
    if limits is None:
        return ""
    if limits.least is not None and limits.most is not None:
        ends = f"{_number(limits.least)} to {_number(limits.most)}"
        return " or ".join(filter(None, (ends, ", ".join(map(code, limits.choices)))))
    low = f"≥ {_number(limits.least)}" if limits.least is not None else ""
    low = low or (f"> {_number(limits.above)}" if limits.above is not None else "")
    high = f"≤ {_number(limits.most)}" if limits.most is not None else ""
    high = high or (f"< {_number(limits.below)}" if limits.below is not None else "")
    parts = [", ".join(filter(None, (low, high))), ", ".join(map(code, limits.choices))]
    return " or ".join(filter(None, parts))


def _number(value: float) -> str:
    exponent = len(str(int(value))) - 1
    if value >= 10**6 and value == 10**exponent:
        return f"10^{exponent}"
    if value >= 2**31 and value == 2 ** (length := int(value).bit_length()) - 1:
        return f"2^{length} − 1"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _row(key: Key, with_digest: bool, anchor: str) -> list[str]:
    name = f"{anchor}{key.name}"
    former = f" Formerly `{key.was}`." if key.was else ""
    kind = f"{key.type}; {key.accepts}" if key.accepts else key.type
    cells = [f"[`{key.name}`](#{name}){{#{name}}}", kind, key.default, escaped(key.meaning) + former]
    return [*cells, DIGEST[key.digest]] if with_digest else cells


def _run_page() -> str:
    lines = [RUN, *_sections(RunConfig, with_digest=True), DIGEST_NOTES, _presets()]
    return "\n\n".join(lines) + "\n"


def _sections(kind: type, with_digest: bool) -> Iterator[str]:
    """Yield a heading and a table for each part of a configuration: top level first."""
    keys = list(keys_of(kind))
    tops = [key for key in keys if "." not in key.name]
    yield "## Top level {#top-level}"
    yield key_table(tops, with_digest)
    for top in tops:
        if parts := [key for key in keys if key.name.startswith(f"{top.name}.")]:
            yield f"## {top.name} {{#{top.name}-keys}}"
            yield escaped(_about(kind, top.name) or top.meaning)
            yield key_table(parts, with_digest)


def _about(kind: type, name: str) -> str:
    part = _dataclass_in(get_type_hints(kind)[name])
    return paragraphs(part.__doc__)[0] if part else ""


def _presets() -> str:
    """Return a table of the presets side by side, with all keys that one of them sets."""
    names = [*PRESET_ORDER, *sorted({path.stem for path in PRESETS.glob("*.yaml")} - set(PRESET_ORDER))]
    configs = {name: load_config(name).to_dict() for name in names}
    given = [_dotted(OmegaConf.to_container(OmegaConf.load(PRESETS / f"{name}.yaml"))) for name in names]
    rows = []
    for key in dict.fromkeys(key for one in given for key in one):
        rows.append([code(key), *(yaml_text(_value(configs[name], key)) for name in names)])
    said = [f"- `{name}`: {escaped(_comment(name))}" for name in names]
    about = "Keys that no preset sets have the defaults above."
    return "\n\n".join(["## Presets {#presets}", "\n".join(said), table(["key", *map(code, names)], rows), about])


def _comment(preset: str) -> str:
    """Return the comment at the head of a preset."""
    lines = (PRESETS / f"{preset}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in lines if re.match("#", line))


def _dotted(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return [prefix.rstrip(".")]
    return [key for name, branch in tree.items() for key in _dotted(branch, f"{prefix}{name}.")]


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree

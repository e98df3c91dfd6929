"""Pages of the command line: one for each verb, in the groups of `polarcast --help`."""

import ast
import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from typer.main import get_command

from docs.tools.markdown import code, escaped, paragraphs, table, wide
from polarcast.hpc.cli.app import app
from polarcast.hpc.utils import exit_codes

FOLDER = "reference/cli"
_OTHERS = "Commands"
_TYPES = {str: "text", int: "whole number", float: "number", bool: "flag", Path: "path", Any: "text"}


@dataclass(frozen=True)
class Verb:
    """A verb of the command line, such as `data`, or a sub-verb, such as `data shard`."""

    name: str
    command: Any

    @property
    def group(self) -> str:
        """Heading of `polarcast --help` under which the verb stands."""
        panel = getattr(self.command, "rich_help_panel", None)
        return str(getattr(panel, "value", panel) or _OTHERS)

    @property
    def parts(self) -> list["Verb"]:
        """The sub-verbs."""
        return [Verb(f"{self.name} {name}", part) for name, part in _visible(self.command)]

    @property
    def page(self) -> str:
        """Path of the page in the documentation."""
        return f"{FOLDER}/{self.name}.md"


def verbs() -> list[Verb]:
    """Return the verbs, in the order of `polarcast --help`."""
    return [Verb(name, command) for name, command in _visible(get_command(app))]


def groups() -> dict[str, list[Verb]]:
    """Return the verbs by group."""
    found: dict[str, list[Verb]] = {}
    for verb in verbs():
        found.setdefault(verb.group, []).append(verb)
    return found


def pages() -> dict[str, str]:
    """Return the page of each verb, and the overview."""
    return {f"{FOLDER}/index.md": _overview(), **{verb.page: _page(verb) for verb in verbs()}}


def _visible(command: Any) -> list[tuple[str, Any]]:
    """Return the commands of a group in the order of its help, without hidden ones."""
    names = command.list_commands(None) if hasattr(command, "commands") else []
    return [(name, command.commands[name]) for name in names if not command.commands[name].hidden]


def _overview() -> str:
    whole = get_command(app)
    lines = ["# Command line", escaped(whole.help or ""), "Each verb explains itself: `polarcast VERB --help`."]
    for group, members in groups().items():
        rows = [row for verb in members for row in _overview_rows(verb)]
        lines += [f"## {group}", table(["verb", "use"], rows)]
    lines += ["## Options of every verb", "They stand before the verb, as in `polarcast --debug train demo`."]
    lines += [_options(whole, "polarcast")]
    lines += ["## Exit codes {#exit-codes}", _exit_codes()]
    lines += ["## Completion in the shell", "`polarcast --install-completion` adds it to the current shell's settings."]
    return "\n\n".join(lines) + "\n"


def _overview_rows(verb: Verb) -> Iterator[tuple[str, str]]:
    for part in verb.parts or [verb]:
        anchor = f"#{part.name.replace(' ', '-')}" if verb.parts else ""
        yield f"[`{part.name}`]({verb.name}.md{anchor})", escaped(paragraphs(part.command.help)[0])


def _exit_codes() -> str:
    """Return a table of the exit codes and their docstrings."""
    nodes = ast.parse(inspect.getsource(exit_codes)).body
    rows = []
    for node, after in pairwise(nodes):
        if isinstance(node, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            rows.append((code(ast.literal_eval(node.value)), escaped(str(after.value.value))))
    return table(["code", "meaning"], rows)


def _page(verb: Verb) -> str:
    lines = [f"# polarcast {verb.name}", *_body(verb)]
    for part in verb.parts:
        lines += [f"## {part.name} {{#{part.name.replace(' ', '-')}}}", *_body(part)]
    lines += ["Exit codes: 0 success, 1 failure, 2 wrong input; [all codes](index.md#exit-codes)."]
    return "\n\n".join(lines) + "\n"


def _body(verb: Verb) -> Iterator[str]:
    """Yield what the verb does, how it is called, its examples and its options."""
    told, examples = [], []
    for paragraph in paragraphs(verb.command.help):
        found = list(_examples(paragraph))
        examples += found
        told += [] if found else [escaped(paragraph.replace(r"\[", "["))]
    yield from told
    if verb.parts:
        yield from _code_block(examples)
        return
    yield f"```text\n{_usage(verb)}\n```"
    yield from _code_block(examples)
    yield _options(verb.command, verb.name)


def _code_block(examples: list[str]) -> Iterator[str]:
    if examples:
        yield "\n".join(['```bash title="Examples"' if examples[1:] else '```bash title="Example"', *examples, "```"])


def _examples(paragraph: str) -> Iterator[str]:
    """Yield the commands of a paragraph of examples; words between them become comments."""
    lead, colon, rest = paragraph.partition(": ")
    if not colon or not re.match(r"(srun \S+ )?polarcast ", rest):
        return
    about = "" if lead == "Example" else lead
    for part in re.split(r"(?:; |, (?=or: ))", rest):
        words, colon, command = part.rpartition(": ") if ": polarcast" in part or ": srun" in part else ("", "", part)
        about = words or about
        yield f"# {about[0].upper()}{about[1:]}\n{command}" if about and about != "or" else command
        about = ""


def _usage(verb: Verb) -> str:
    """Return the line that shows how a verb is called."""
    words = [_argument(p) for p in verb.command.params if p.param_type_name == "argument"]
    return " ".join(["polarcast", verb.name, "[OPTIONS]", *words])


def _argument(parameter: Any) -> str:
    name = parameter.metavar or f"{parameter.name.upper()}{'…' if parameter.nargs == -1 else ''}"
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _options(command: Any, verb: str) -> str:
    """Return a table of the arguments and options of a command; those that typer adds are flags."""
    declared = _declared(command.callback)
    rows = [_row(parameter, *declared.get(parameter.name, (bool, None)), verb) for parameter in command.params]
    return wide(table(["argument, option", "type", "default", "meaning"], rows))


def _row(parameter: Any, annotation: Any, info: Any, verb: str) -> tuple[str, ...]:
    is_argument = parameter.param_type_name == "argument"
    names = [_argument(parameter)] if is_argument else [*parameter.opts, *parameter.secondary_opts]
    anchor = f"{verb}-{parameter.name if is_argument else max(names, key=len).lstrip('-')}".replace(" ", "-")
    meaning = escaped(" ".join((parameter.help or "").split()))
    return (
        f"[{', '.join(map(code, names))}](#{anchor}){{#{anchor}}}",
        type_text(annotation, getattr(info, "min", None), getattr(info, "max", None)),
        "required" if parameter.required else _default(parameter),
        meaning,
    )


def _default(parameter: Any) -> str:
    value = parameter.default
    if callable(value) or value is None or value is False or value in ("", [], ()):
        return ""
    return code(value)


def _declared(callback: Any) -> dict[str, tuple[Any, Any]]:
    """Return the type and the declaration of each parameter of a verb."""
    found = {}
    for name, parameter in inspect.signature(callback, eval_str=True).parameters.items():
        annotation, info = parameter.annotation, parameter.default
        if get_origin(annotation) is Annotated:
            annotation, info = get_args(annotation)[:2]
        found[name] = (annotation, info)
    return found


def type_text(annotation: Any, least: Any = None, most: Any = None) -> str:
    """Return a type in words, such as `whole number, 1 to 10`."""
    text = _type_name(annotation)
    if least is None and most is None:
        return text
    return f"{text}, {least} to {most}" if None not in (least, most) else f"{text}, ≥ {least}" if most is None else text


def _type_name(annotation: Any) -> str:
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) in (types.UnionType, Union):
        return " or ".join(dict.fromkeys(map(_type_name, arguments)))
    if get_origin(annotation) in (list, tuple):
        return f"{_type_name(arguments[0])}, repeatable"
    return _TYPES.get(annotation, str(getattr(annotation, "__name__", annotation)))

"""Check the commands and Python blocks of the documentation without running them: `python -m docs.tools.commands`.

Each `polarcast …` is parsed by the command line itself, and its configuration, scores, suites and profiles are read.
Of Python blocks, the syntax, imports, names of `polarcast` and keyword arguments are checked.
"""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

import polarcast
from docs.tools.blocks import LANGUAGES, ROOT, Block, Command, blocks, commands, pages
from polarcast.data.errors import BadInput
from polarcast.hpc.cli.default_verb import with_verb
from polarcast.hpc.config.load import load_config
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.utils.sources import SPACES, SUITES

SANDBOX_PROGRAMS = ("cat", "cp", "echo", "export", "head", "ls", "mkdir", "mv", "printf", "rm", "tail")
"""Programs beside polarcast that blocks without a title may call; the tests run them."""
_PLACEHOLDER = re.compile(r"…|\.\.\.|<[\w-]+>")
_UsageError: Any = typer.BadParameter.__base__
_GROUPS_OF_SCORES = ("usual", "all")
_STAND_IN = "demo"
"""Preset whose keys are checked where a page names a file of the reader's own."""


def problems(block: Block, root: Path = ROOT) -> Iterator[str]:
    """Yield what is wrong with a block, each with its place."""
    if block.language not in LANGUAGES or block.is_of_changed_code:
        return
    if block.title and not block.needs and not block.file:
        yield f"{block.page}:{block.line}: the title {block.title!r} is neither 'Needs …' nor a file name"
    if block.language == "python":
        yield from (f"{block.page}:{block.line + line - 1}: {what}" for line, what in _python_problems(block.text))
        return
    try:
        found = list(commands(block))
    except (ValueError, StopIteration) as error:
        yield f"{block.page}:{block.line}: not readable as commands: {error}"
        return
    for command in found:
        yield from (f"{command.where}: {what}" for what in _command_problems(command, block, root))


def _command_problems(command: Command, block: Block, root: Path) -> Iterator[str]:
    if any(_PLACEHOLDER.search(word) for word in command.words):
        yield "has a placeholder, so it can't be copied"
        return
    calls = command.programs
    if not block.title and not command.is_simple and any(map(_is_polarcast, calls)):
        yield "polarcast is called through a shell: write one command a line, or say what the block needs"
    for words in calls:
        program = words[0].removeprefix(".venv/bin/")
        if _is_polarcast(words):
            what = parse(words[1:])
        elif program in RULES:
            what = RULES[program](words[1:], root)
        elif block.title or program in SANDBOX_PROGRAMS:
            what = ""
        else:
            what = f"{words[0]!r} is not run by the tests: say what the block needs in its title"
        if what:
            yield what


def _is_polarcast(words: Sequence[str]) -> bool:
    return words[0].rpartition("/")[2] == "polarcast"


# --- polarcast ---


@cache
def _root() -> Any:
    from polarcast.hpc.cli.app import app

    return typer.main.get_command(app)


def parse(words: Sequence[str]) -> str:
    """Parse the words after `polarcast`, and what its arguments name. Returns what is wrong, or nothing."""
    try:
        path, values = _parsed([word.replace("{task}", "0") for word in words])
        for check in (_check_configuration, _check_scores, _check_sources, _check_job):
            check(path, values)
    except _UsageError as error:
        return str(error.format_message())
    except (BadInput, ValueError) as error:
        return str(error)
    return ""


def _parsed(words: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """Return the verb with its subcommand, and the values of its arguments. Nothing for `--help` and `--version`."""
    path: list[str] = []
    command, context, rest = _root(), None, list(words)
    if "--help" in rest and "--" not in rest:
        rest = rest[: rest.index("--help")]
        while rest and isinstance(command, TyperGroup):
            command = _subcommand(command, rest.pop(0))
        return "", {}
    if rest in (["--version"], ["--show-completion"], ["--install-completion"]):
        return "", {}
    while True:
        context = command.make_context(path[-1] if path else "polarcast", rest, parent=context)
        if not isinstance(command, TyperGroup):
            return " ".join(path), context.params
        rest = with_verb(command, [*getattr(context, "_protected_args", []), *context.args])
        path.append(rest.pop(0))
        command = _subcommand(command, path[-1])


def _subcommand(group: Any, name: str) -> Any:
    if name not in group.commands:
        raise ValueError(f"no verb {name!r}")
    return group.commands[name]


def _is_variable(word: str) -> bool:
    """Whether a shell fills in a part of it."""
    return "$" in word


def _check_configuration(path: str, values: Mapping[str, Any]) -> None:
    if path in ("sweep", "finetune") or "overrides" not in values:
        return
    source = values["source"] or _STAND_IN
    if source.endswith((".yaml", ".yml")) and not (ROOT / source).is_file():
        source = _STAND_IN
    runs = ("base=", "train.start_from=")  # no run of the reader exists
    overrides = [word for word in values["overrides"] or [] if not _is_variable(word) and not word.startswith(runs)]
    _load(source, overrides)


def _load(source: str, overrides: Sequence[str]) -> None:
    try:
        load_config(source, overrides)
    except BadInput as error:
        if error.where != "base":  # no run of the reader exists
            raise


def _check_scores(_: str, values: Mapping[str, Any]) -> None:
    given = [values.get("score"), *(values.get("scores") or [])]
    for score in given:
        if score and score not in _GROUPS_OF_SCORES and not _is_variable(score):
            parse_score(score)


def _check_sources(path: str, values: Mapping[str, Any]) -> None:
    for key, folder, kind in (("suite", SUITES, "suite"), ("space", SPACES, "space")):
        name = values.get(key)
        if path in ("bench run", "sweep") and name and not name.endswith((".yaml", ".yml")):
            _require_built_in(name, folder, kind)
    if path == "sweep" and (SPACES / f"{values['space']}.yaml").is_file():
        from polarcast.sweeps.space import load_space

        load_space(values["space"], [word for word in values["overrides"] or [] if not _is_variable(word)])


def _require_built_in(name: str, folder: Path, kind: str) -> None:
    if not _is_variable(name) and not (folder / f"{name}.yaml").is_file():
        raise ValueError(f"no {kind} {name!r}")


def _check_job(path: str, values: Mapping[str, Any]) -> None:
    if path != "submit":
        return
    from polarcast.slurm.profile import load_profile

    cluster = values["cluster"]
    if not _is_variable(cluster) and (not cluster.endswith((".yaml", ".yml")) or (ROOT / cluster).is_file()):
        load_profile(str(ROOT / cluster) if cluster.endswith((".yaml", ".yml")) else cluster)
    if what := parse(values["command"]):
        raise ValueError(what)


# --- other programs ---


def _make(words: Sequence[str], root: Path) -> str:
    targets = set(re.findall(r"^([\w-]+):(?!=)", (root / "Makefile").read_text(encoding="utf-8"), re.M))
    unknown = [word for word in words if "=" not in word and not word.startswith("-") and word not in targets]
    return f"the Makefile has no target {unknown[0]!r}" if unknown else ""


def _pip(words: Sequence[str], root: Path) -> str:
    if words[:1] != ("install",):
        return ""
    content = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    named = {name for word in words for group in re.findall(r"\[([\w,-]+)\]", word) for name in group.split(",")}
    unknown = sorted(named - set(content["project"]["optional-dependencies"]))
    return f"polarcast has no extra {unknown[0]!r}" if unknown else ""


def _sbatch(words: Sequence[str], root: Path) -> str:
    scripts = [number for number, word in enumerate(words) if word.endswith((".sbatch", ".sh"))]
    if not scripts:
        return "no batch script is named"
    script = root / words[scripts[0]]
    if not script.is_file():
        return "" if "/" not in words[scripts[0]] else f"no such script {words[scripts[0]]!r}"
    if subprocess.run(["bash", "-n", script], capture_output=True).returncode:
        return f"bash can't read {words[scripts[0]]!r}"
    return parse([script.stem, *words[scripts[0] + 1 :]])


def _python(words: Sequence[str], root: Path) -> str:
    if words[:1] == ("-m",) and len(words) > 1:
        name = words[1]
        return "" if name in ("pytest", "venv", "pip") or _has_module(name) else f"no module {name!r}"
    return ""


def _has_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _pytest(words: Sequence[str], root: Path) -> str:
    gone = [word for word in words if word.startswith("tests/") and not (root / word.partition("::")[0]).exists()]
    return f"no such test {gone[0]!r}" if gone else ""


def _source(words: Sequence[str], _: Path) -> str:
    is_known = len(words) == 1 and words[0].endswith("bin/activate")
    return "" if is_known else "only the environment's activate is known to exist"


RULES: Mapping[str, Callable[[Sequence[str], Path], str]] = {
    "make": _make,
    "pip": _pip,
    "sbatch": _sbatch,
    "python": _python,
    "python3": _python,
    "pytest": _pytest,
    "source": _source,
}
"""Checks of programs that the tests do not run: each returns what is wrong, or nothing."""


# --- Python ---


def _python_problems(text: str) -> Iterator[tuple[int, str]]:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        yield error.lineno or 1, f"no valid Python: {error.msg}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            yield from ((node.lineno, what) for what in _import_problems(node))
        elif isinstance(node, ast.Attribute) and _dotted(node) and not _exists(_dotted(node)):
            yield node.lineno, f"polarcast has no {_dotted(node)!r}"
        elif isinstance(node, ast.Call) and _dotted(node.func) and _exists(_dotted(node.func)):
            yield from ((node.lineno, what) for what in _call_problems(node))


def _import_problems(node: ast.ImportFrom | ast.Import) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (
            f"no module {alias.name!r}"
            for alias in node.names
            if alias.name.startswith("polarcast") and not _has_module(alias.name)
        )
    elif node.module and node.module.startswith("polarcast"):
        if not _has_module(node.module):
            yield f"no module {node.module!r}"
            return
        module = import_module(node.module)
        names = (alias.name for alias in node.names if not hasattr(module, alias.name))
        yield from (f"{node.module} has no {name!r}" for name in names)


def _dotted(node: ast.expr) -> str:
    """Return `scores.csi` of the expression `pc.scores.csi`; nothing for others."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join(parts) if isinstance(node, ast.Name) and node.id in ("pc", "polarcast") else ""


def _exists(dotted: str) -> bool:
    found: Any = polarcast
    for name in dotted.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def _call_problems(node: ast.Call) -> Iterator[str]:
    called: Any = polarcast
    for name in _dotted(node.func).split("."):
        called = getattr(called, name)
    parameters = inspect.signature(called).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    unknown = [word.arg for word in node.keywords if word.arg and word.arg not in parameters]
    yield from (f"{_dotted(node.func)} has no argument {name!r}" for name in unknown)


def main() -> int:
    """Print what is wrong with the blocks of all pages; return 1 if anything is."""
    found = [what for page in pages() for block in blocks(page) for what in problems(block)]
    print("\n".join(found) or "all commands and Python blocks can be read")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

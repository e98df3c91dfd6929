"""Page of the models in the registry: what they do, where they come from, and their keys."""

import sys
from collections.abc import Iterator

from docs.tools.keys import key_table, keys_of
from docs.tools.markdown import code, escaped, paragraphs, table
from polarcast.models.registry import MODELS, RegisteredModel

PAGE = "reference/models.md"
TITLES = {"qpe": "Rain estimation", "nowcast": "Nowcasting"}
HEAD = """# Models

`model.name` chooses a model; its other keys are set as `model.KEY=VALUE`. Anything else is described on the page
[Configuration](configuration.md). To add a model, see [A model](../extend/model.md). Runs with the model `external`
hold forecasts of [other software](../guides/leaderboards.md#a-model-of-other-software), and can't be trained.
"""


def pages() -> dict[str, str]:
    """Return the page of the models."""
    return {PAGE: "\n\n".join([HEAD, *_overview(), *_tasks()]) + "\n"}


def _overview() -> Iterator[str]:
    columns = ["model", "task", "trained", "needs a base", "time of a step, U-Net = 1"]
    yield table(columns, (_overview_row(name, model) for name, model in MODELS.items()))
    yield "A model that is not trained is fitted in one pass over the training events, or needs no fit."
    yield "For it, the time is that of an evaluation. Times are those by which suites are scheduled."


def _overview_row(name: str, model: RegisteredModel) -> list[str]:
    base = "two or more" if model.several_bases else "one" if model.needs_base else "no"
    cells = [", ".join(map(code, model.tasks)), "yes" if model.trained else "no", base, f"{model.cost:g}"]
    return [f"[`{name}`](#{name})", *cells]


def _tasks() -> Iterator[str]:
    for task, title in TITLES.items():
        yield f"## {title} {{#task-{task}}}"
        for name, model in MODELS.items():
            if task in model.tasks:
                yield from _section(name, model)


def _section(name: str, model: RegisteredModel) -> Iterator[str]:
    module = sys.modules[model.make.__module__]
    yield f"### {name} {{#{name}}}"
    yield from map(escaped, paragraphs(model.make.__doc__))
    yield from (escaped(paragraph) for paragraph in _source(module.__doc__))
    yield "\n".join(f"- {line}" for line in _facts(name, model))
    keys = list(keys_of(model.config))
    yield key_table(keys, anchor=f"{name}.") if keys else "It has no keys of its own."


def _source(docstring: str | None) -> Iterator[str]:
    """Yield the paragraphs of a module that implements models: their source paper and reasons."""
    first, *others = paragraphs(docstring)
    yield f"Source: {first}"
    yield from others


def _facts(name: str, model: RegisteredModel) -> Iterator[str]:
    yield f"Code: `{model.make.__module__.removeprefix('polarcast.').replace('.', '/')}.py`."
    yield "Trained by gradient descent." if model.trained else "Not trained by gradient descent."
    if model.needs_base:
        runs = "base=runs/a,runs/b" if model.several_bases else "base=runs/a"
        yield f"Builds on {'two or more trained runs' if model.several_bases else 'a trained run'}: `{runs}`."
    if model.sees_truth:
        yield "Receives the target as input: its scores bound those of other models, and are no result."
    if model.any_inputs:
        yield "Picks what it needs from any heights and frames, and from any variables that include its own."
    if model.has_widths:
        yield "`match_params` solves its `widths`, so that both arms have equally many parameters."

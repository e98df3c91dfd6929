"""The card of a net: what it is, how it was trained, its recorded scores with intervals, and what it is not for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json
from polarcast.data.secrets import redacted_tree
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.scores.event_scores import EventScores, compare
from polarcast.hpc.scores.records import Records, read_records
from polarcast.hpc.utils.text import markdown_text, one_line
from polarcast.models.registry import get_model

_TEST = "test"
_ARCHIVE_KEYS = (
    "name", "preset", "generator", "generator_version", "seed", "size", "frames", "rain", "time_step_min", "spacing_km",
    "derived", "adopted",
)  # fmt: skip
_RUN_KEYS = (
    "parameters", "frozen_values", "seed", "steps", "samples", "best_step", "training_events", "training_windows",
    "training_flops", "run_flops", "forecast_flops", "evaluations", "archive",
)  # fmt: skip
"""Keys of a run's card that are kept; its base runs name folders."""
_PLACE = re.compile(r"(?:[a-z][\w+.-]*://|(?<![\w.…])~?/|\.\./)[^\s,'\"=\[\]]*", re.IGNORECASE)
"""A URL, an absolute path, or one that leaves the folder."""
_ROWS = {
    "task": "Task", "model": "Model", "arm": "Arm", "variables": "Variables", "heights_km": "Heights in km",
    "frames": "Input frames", "lead_frames": "Lead frames", "sides_multiple_of": "Sides are multiples of",
    "parameters": "Parameters trained", "frozen_values": "Frozen values of base runs",
    "stored_as": "Weights stored as", "license": "Licence",
    "polarcast": "Packed by polarcast",
}  # fmt: skip
_TRAINING_ROWS = {
    "archive": "Archive", "training_events": "Events", "training_windows": "Windows",
    "spacing_km": "Pixel spacing in km", "step_minutes": "Time between frames in minutes", "seed": "Seed",
    "steps": "Steps", "samples": "Samples drawn", "best_step": "Step of the kept weights", "created": "Begun",
    "command": "Command", "revision": "Source revision", "uncommitted": "Uncommitted changes (SHA-256)",
    "data": "Data (SHA-256 of the manifest)", "config": "Configuration (digest)",
}  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """Recorded scores of a run on one set of events.

    Attributes:
        on: Name of the split or archive.
        records: Sums of each event.
    """

    on: str
    records: Records


def recorded_scores(run: RunFolder) -> list[Scored]:
    """Return the recorded scores of a run: of its test split, and of the archives it was scored on, by name.

    Raises:
        BadInput: records are damaged.
    """
    files = [(_TEST, run.output.scores)]
    files += [(path.parent.name, path) for path in sorted((run.path / "on").glob("*/scores.parquet"))]
    return [Scored(name, read_records(path)) for name, path in files if path.is_file()]


def provenance_of(run: RunFolder) -> dict[str, Any]:
    """Return the provenance of a run without host, folders and other places."""
    known = read_provenance(run.provenance_file)
    data = known.get("data", {})
    archive = data.get("archive") if isinstance(data.get("archive"), dict) else {}
    kept = {
        "created": known.get("created"),
        "code": known.get("code", {}),
        "data": {"digest": data.get("digest"), "archive": {k: archive[k] for k in _ARCHIVE_KEYS if k in archive}},
        "packages": known.get("packages", {}),
        "python": known.get("python"),
        "command": known.get("command"),
    }
    return dict(without_places(kept))


def make_card(run: RunFolder, facts: Mapping[str, Any], beside: Sequence[RunFolder], not_for: Sequence[str]) -> Any:
    """Collect the card of a run as nested values.

    Args:
        run: Finished run.
        facts: What `zoo.json` says of it.
        beside: Runs whose scores on the same events stand beside its own.
        not_for: What the net is not for, one line each.

    Raises:
        BadInput: records are damaged, or a run beside it has no scores on the same events.
    """
    config, known, told = run.config(), provenance_of(run), read_json(run.path / "card.json")
    command = known.get("command")
    training = {
        "data": known["data"]["digest"],
        "command": " ".join(["polarcast", *map(str, command)]) if isinstance(command, list) else None,
        "created": known["created"],
        "revision": known["code"].get("commit") or None,
        "uncommitted": known["code"].get("diff_sha256") or None,
        "spacing_km": facts["spacing_km"],
        "step_minutes": facts["step_minutes"],
    }
    card = {
        **{key: facts[key] for key in ("name", "about", "license", "polarcast", "sides_multiple_of")},
        **{key: facts[key] for key in ("task", "arm", "model", "variables", "heights_km", "frames", "lead_frames")},
        **({"stored_as": facts["stored_as"]} if "stored_as" in facts else {}),
        **{key: told.get(key) for key in _RUN_KEYS},
        "seed": config.seed,
        "config": facts["config"],
        "training": training,
        "scores": _scores(run, config, beside),
        "not_for": list(not_for),
    }
    return redacted_tree(without_places(card))


def _scores(run: RunFolder, config: RunConfig, beside: Sequence[RunFolder]) -> list[dict[str, Any]]:
    own, others = recorded_scores(run), [(other, recorded_scores(other)) for other in beside]
    found: list[dict[str, Any]] = []
    for scored in own:
        mine = EventScores(scored.records, _is_random(config))
        rows = [_score(mine, name) for name in _names(scored.records)]
        lines = [_beside(mine, scored, other, theirs) for other, theirs in others]
        found.append({
            "on": scored.on, "data": scored.records.data, "events": len(scored.records.events),
            "groups": len(set(scored.records.groups.tolist())), "scores": rows,
            "beside": [line for line in lines if line],
        })  # fmt: skip
    compared = {line["run"] for entry in found for line in entry["beside"]}
    for other in beside:
        if _label(other) not in compared:
            fix = "score both with polarcast evaluate on the same shards or archive"
            raise BadInput("has no scores on events that the packed run was scored on", other.path, fix)
    return found


def _beside(mine: EventScores, scored: Scored, other: RunFolder, theirs: Sequence[Scored]) -> dict[str, Any] | None:
    """Return the scores of another run on the same events, and the differences; None if it has none."""
    same = [one for one in theirs if (one.on, one.records.data) == (scored.on, scored.records.data)]
    if not same:
        return None
    reference, rows = EventScores(same[0].records, _is_random(other.config())), []
    for name in _names(scored.records):
        found = compare(reference, mine, name)
        rows.append({
            **_score(reference, name),
            "difference": {"scale": found.scale, **_numbers(found.value, found.low, found.high)},
        })  # fmt: skip
    return {"run": _label(other), "scores": rows}


def _label(run: RunFolder) -> str:
    config = run.config()
    return f"{config.model['name']}, {config.arm}"


def _names(records: Records) -> Iterator[str]:
    """Yield the scores of the card: usual thresholds, over all lead times and at the last one."""
    protocol = records.protocol
    last = f",lead_time={protocol.lead_time[-1]:g}" if len(protocol.lead_time) > 1 else ""
    thresholds = [f"csi@threshold={value:g}" for value in protocol.threshold]
    yield from ("rmse", "nb", *thresholds)
    if last:
        yield from (f"{name}{last}" for name in thresholds)


def _score(scores: EventScores, name: str) -> dict[str, Any]:
    interval = scores.interval(name)
    return {"score": name, **_numbers(interval.value, interval.low, interval.high)}


def _numbers(value: float, low: float, high: float) -> dict[str, float | None]:
    """Return value and limits of the 95% interval; None where undefined, as with few events."""
    pairs = {"value": value, "low": low, "high": high}
    return {key: float(f"{number:.5g}") if np.isfinite(number) else None for key, number in pairs.items()}


def _is_random(config: RunConfig) -> bool:
    return config.base is not None or get_model(config.model["name"]).trained


def without_places(content: Any) -> Any:
    """Return nested values in which paths that leave a folder, and URLs, are their last part after `…/`."""
    if isinstance(content, Mapping):
        return {key: without_places(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_places(item) for item in content]
    return _PLACE.sub(_last_part, content) if isinstance(content, str) else content


def _last_part(found: re.Match[str]) -> str:
    path = found[0].partition("?")[0].partition("#")[0]
    return f"…/{path.rstrip('/').rpartition('/')[2]}"


def card_page(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown. Texts in it are shown as text."""
    training = {**card, **card["training"]}
    parts = [f"# {_cell(card['name'])}", *([_cell(card["about"])] if card["about"] else []), _table(card, _ROWS)]
    parts += ["## Training", _table(training, _TRAINING_ROWS), "## Scores", *_score_parts(card["scores"])]
    lines = [f"- {_cell(line)}" for line in card["not_for"]] or ["Not stated."]
    return "\n\n".join([*parts, "## Not for", "\n".join(lines)]) + "\n"


def _score_parts(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not scores:
        yield "None recorded."
        return
    yield "Values with 95% intervals over events, of this one training. – : too few events, or undefined."
    for scored in scores:
        count = f"{_plural(scored['events'], 'event')} in {_plural(scored['groups'], 'group')}"
        yield f"On {_cell(scored['on'])}: {count}, data {_cell(scored['data'][:12]) or 'not recorded'}."
        labels = [_cell(one["run"]) for one in scored["beside"]]
        head = ["score", "this net", *(f"{kind}{label}" for label in labels for kind in ("", "net against "))]
        rows = [head, ["---"] * len(head)]
        for number, row in enumerate(scored["scores"]):
            others = [one["scores"][number] for one in scored["beside"]]
            cells = [text for one in others for text in (_with_limits(one), _difference(one["difference"]))]
            rows.append([_cell(row["score"]), _with_limits(row), *cells])
        yield "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _with_limits(row: Mapping[str, Any]) -> str:
    value, low, high = (_number(row[key]) for key in ("value", "low", "high"))
    return value if row["low"] is None else f"{value} ({low} … {high})"


def _difference(row: Mapping[str, Any]) -> str:
    if row["scale"] != "ratio" or row["value"] is None:
        return _with_limits(row)
    value, low, high = (None if row[key] is None else f"{100 * row[key]:+.1f}%" for key in ("value", "low", "high"))
    return str(value) if low is None else f"{value} ({low} … {high})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _table(values: Mapping[str, Any], rows: Mapping[str, str]) -> str:
    lines = [f"| {label} | {_cell(values[key])} |" for key, label in rows.items() if values.get(key) is not None]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:,}"
    return markdown_text(one_line(f"{value:g}" if isinstance(value, float) else str(value)))

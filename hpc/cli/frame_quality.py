"""The verb `polarcast data quality`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polarcast.data.files import checked_output
from polarcast.hpc.utils.console import Json, print_json, print_text, progress

if TYPE_CHECKING:
    from rich.table import Table


def quality(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
    out: Annotated[
        Path | None, typer.Argument(help="Folder for quality.json and quality.png; none by default.")
    ] = None,
    as_json: bool = Json,
) -> None:
    """Judge the training frames of shards: label 300 by a rule, fit a support vector machine, and show how good it is.

    `data.drop_poor` drops the training windows of the poorest frames.

    Example: polarcast data quality shards judged
    """
    if out:
        checked_output(out, is_folder=True)
    from polarcast.data.frame_quality.judge import judge_frames, training_frames
    from polarcast.data.shards.manifest import read_manifest

    manifest = read_manifest(shards)
    with progress("frames", len(training_frames(manifest))) as done:
        found = judge_frames(manifest, done)
    if out:
        from polarcast.data.files import write_json
        from polarcast.data.frame_quality.figure import draw_quality

        draw_quality(out / "quality.png", found, manifest)
        write_json(out / "quality.json", found.report)
    if as_json:
        print_json({"shards": str(shards), **found.report})
        return
    print_text(_table(found.report))
    print_text(_reliability(found.report["assessment"]["reliability"]))
    if out:
        print_text(f"quality.json and quality.png in {out}")


def _table(report: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(title=f"Quality of {report['training_frames']} training frames", title_justify="left")
    for name in ("measured", "value"):
        table.add_column(name, justify="left" if name == "measured" else "right")
    rule, assessed = report["rule"], report["assessment"]
    others = assessed["others_accuracy"]
    rows = {
        "rule: least share of rainy cells": f"{rule['rainy']:.4f}",
        "rule: greatest share of zeros": f"{rule['zeros']:.4f}",
        "rule: least spread": f"{rule['spread']:.4f}",
        "poor by the rule": f"{report['poor_by_rule']:.1%}",
        "poor by the classifier": f"{report['poor_by_classifier']:.1%}",
        "labelled frames, groups": f"{assessed['frames']}, {assessed['groups']}",
        f"accuracy, {assessed['folds']} folds of groups": f"{assessed['accuracy']:.1%}",
        "accuracy of the more frequent label": f"{assessed['majority']:.1%}",
        "accuracy on the other training frames": "–" if others is None else f"{others:.1%}",
        "Brier score, and that of the constant share": f"{assessed['brier']:.4f}, {assessed['brier_of_share']:.4f}",
    }
    for row in rows.items():
        table.add_row(*row)
    return table


def _reliability(bins: list[list[float]]) -> "Table":
    from rich.table import Table

    table = Table(title="Calibration, cross-validated", title_justify="left")
    for name in ("mean probability", "good frames", "frames"):
        table.add_column(name, justify="right")
    for mean, observed, frames in bins:
        table.add_row(f"{mean:.2f}", f"{observed:.2f}", f"{frames:g}")
    return table

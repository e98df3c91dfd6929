"""How much of what dual polarization can give on synthetic storms a model has won."""

from collections.abc import Sequence

import numpy as np

from polarcast.data.explore.rain_relation import fit_rain_relations, verdict
from polarcast.data.loading.reader import only_test, open_reader
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.table import Record

ATTAINABLE, SCORE = "attainable", "rmse"


def attained(records: Sequence[Record]) -> str:
    """Share of the attainable gain in RMSE that each model's dual-pol arm recovers, and how far its radar arm is off.

    The gain is that of the estimate attainable from one pixel: its RMSE from ZH less its RMSE from ZH and ZDR. A model
    recovers (attainable RMSE from ZH − own dual-pol RMSE) / gain, whatever its own radar arm does: one that is trained
    badly on ZH alone does not look better for it. More than 1 is possible, for a network sees more than one pixel.

    Returns:
        A sentence; empty where the table has no such row or score.
    """
    rmse = {(r.model, r.arm): r.value for r in records if r.metric == SCORE and r.value is not None}
    radar, dualpol = rmse.get((ATTAINABLE, "radar")), rmse.get((ATTAINABLE, "dualpol"))
    if radar is None or dualpol is None or radar <= dualpol:
        return ""
    labels = {r.model: r.label for r in records if r.model != ATTAINABLE}
    told = [
        f"{label} {(radar - rmse[model, 'dualpol']) / (radar - dualpol):.2f} ({rmse[model, 'radar'] / radar - 1:+.0%})"
        for model, label in labels.items()
        if {(model, "radar"), (model, "dualpol")} <= rmse.keys()
    ]
    gain = f"RMSE {radar:.3g} → {dualpol:.3g} mm/h"
    return f"share of the gain attainable from one pixel ({gain}), and radar arm against it: {', '.join(told)}"


_FRAMES = 24


def rain_note(task: str, manifest: Manifest) -> str:
    """A sentence when the rain grid turns out to be a function of KDP; empty otherwise, and for tasks without rain.

    A few frames are enough to tell; shards without KDP, and synthetic ones with true rain, are not asked.
    """
    if (
        task != "qpe"
        or "kdp" not in manifest.variables
        or not manifest.has_rain
        or manifest.provenance.get("rain") == "true_R"
    ):
        return ""
    reader = open_reader(only_test(manifest), "test", variables=("kdp",), heights_km=manifest.heights_km)
    windows = np.unique(np.linspace(0, len(reader) - 1, _FRAMES).round().astype(int))
    batch = reader.read(windows).to("cpu")
    kdp = batch.radar[:, 0, 0].movedim(1, -1).flatten(0, -2).numpy()
    rain = batch.rain_rate.flatten().numpy()
    there = (kdp != 0).any(1) | (rain != 0)
    relations = fit_rain_relations(kdp[there], rain[there], manifest.heights_km)
    return verdict(relations) if any(r.is_product for r in relations) else ""

"""Notes on tables: share of the attainable dual-pol gain, and rain grids that are a product of the radar."""

from collections.abc import Sequence

import numpy as np

from polarcast.data.explore.rain_relation import fit_rain_relations, verdict
from polarcast.data.loading.reader import only_test, open_reader
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.record import Record

ATTAINABLE, SCORE = "attainable", "rmse"


def gain_note(records: Sequence[Record]) -> str:
    """Return the share of the attainable RMSE gain that each model's dual-pol arm reaches.

    The attainable gain is that of the estimate from one pixel at 1 km: its RMSE from ZH minus its RMSE from ZH and ZDR.
    A model reaches (attainable RMSE from ZH − its own dual-pol RMSE) / gain. Its radar arm does not enter, so that a
    poorly trained radar arm cannot raise the share. Shares above 1 are possible: a model may use several heights and
    the pixels around.

    Returns:
        A sentence; empty if the table lacks these rows or this score.
    """
    rmse = {(r.model, r.arm): r.value for r in records if r.metric == SCORE and r.value is not None}
    radar, dualpol = rmse.get((ATTAINABLE, "radar")), rmse.get((ATTAINABLE, "dualpol"))
    if radar is None or dualpol is None or radar <= dualpol:
        return ""
    labels = {r.model: r.label for r in records if r.model != ATTAINABLE}
    shares = [
        f"{label} {(radar - rmse[model, 'dualpol']) / (radar - dualpol):.2f} ({rmse[model, 'radar'] / radar - 1:+.0%})"
        for model, label in labels.items()
        if {(model, "radar"), (model, "dualpol")} <= rmse.keys()
    ]
    return (
        f"share of the gain attainable from one pixel at 1 km (RMSE {radar:.3g} → {dualpol:.3g} mm/h) that the "
        "dual-pol arm reaches, more than 1 if three heights and neighboring pixels tell more; in parentheses, radar "
        f"RMSE relative to {radar:.3g} mm/h: {', '.join(shares)}"
    )


_FRAMES = 24
_PRODUCT = "product of "
"""Start of what an archive of radar volumes tells of its rain grid."""


def rain_note(task: str, manifest: Manifest) -> str:
    """Return a warning if the rain grid is a product of the radar; empty otherwise, and for tasks without rain.

    The archive tells it, except of KDP, which is tested on a few frames. Shards without KDP, and synthetic shards with
    true rain, are not tested.
    """
    told = str(manifest.provenance.get("rain", ""))
    if task == "qpe" and manifest.has_rain and told.startswith(_PRODUCT) and ": " in told:
        return f"the rain grid is a {told}: QPE scores on it measure agreement with this relation, not with gauges"
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
    has_echo = (kdp != 0).any(1) | (rain != 0)
    relations = fit_rain_relations(kdp[has_echo], rain[has_echo], manifest.heights_km)
    return verdict(relations) if any(r.is_product for r in relations) else ""

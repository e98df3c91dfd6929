"""How much of what dual polarization can give on synthetic storms a model has won."""

from collections.abc import Sequence

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

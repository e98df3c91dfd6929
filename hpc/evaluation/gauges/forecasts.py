"""Rain rates that a trained run estimates around gauges."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from polarcast.data.errors import BadInput
from polarcast.data.loading.prefetch import prefetch
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.distributed.world import World, device_of, set_up_torch
from polarcast.hpc.evaluation.gauges.patches import EventRates, Rates
from polarcast.hpc.runs.build import build_reader, scoring_batch
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.intact import require_intact
from polarcast.hpc.runs.load import load_model

_WORKERS = 2


@torch.no_grad()
def run_rates(
    run: RunFolder,
    manifest: Manifest,
    events: Sequence[EventRates],
    on_batch: Callable[[int, int], None],
) -> list[Rates]:
    """Estimate the rain around the gauges in every frame, with the windows and random numbers of `evaluate`.

    Args:
        run: Finished run that estimates rain; the mean of its members counts.
        manifest: Shards of the archive, all of them test events.
        events: Events with the pixels around gauges.
        on_batch: Called with (batches done, total).

    Returns:
        By event, (t, g, 9) in mm/h; NaN where not observed, and in frames without an estimate, such as the first ones
        of a run that reads earlier frames.

    Raises:
        BadInput: The run nowcasts, is a placebo, or reads variables that the shards lack.
    """
    config = run.config()
    if config.is_nowcast:
        raise BadInput("the run nowcasts reflectivity; gauges score estimates of rain", run.path, "give a QPE run")
    if config.is_placebo:
        raise BadInput("a placebo takes ZDR and KDP from other events", run.path, "give a run of another arm")
    model = load_model(run, World())
    set_up_torch(config.train.threads, World())
    every = replace(manifest, selection={**manifest.selection, "min_strong_pixels": 0})
    reader = build_reader(config, every, "test", rain=False)
    require_intact(reader, config.data, World())
    position = {event.event: number for number, event in enumerate(events)}
    out = [np.full((len(e.frames), *e.patch.rows.shape), np.nan, np.float32) for e in events]
    wanted = np.flatnonzero(np.isin(reader.events(), list(position)))
    size = scoring_batch(every)
    batches = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    for number, batch in enumerate(prefetch(reader.read, batches, _WORKERS), start=1):
        rain = model.forecast(batch.to(device_of(World())), config.evaluate.members)[:, :, -1].mean(1)
        for field, (event, frame) in zip(
            rain.float().cpu().numpy(), reader.windows.begins(batches[number - 1])[:, :2].tolist(), strict=True
        ):
            at = position[event]
            out[at][np.searchsorted(events[at].frames, frame)] = events[at].patch.of(field, np.nan)
        on_batch(number, len(batches))
    return [np.where(event.seen, rates, np.nan) for event, rates in zip(events, out, strict=True)]

"""What a table of QPE must say about the rain it was scored on."""

import numpy as np

from polarcast.data.explore.rain_relation import fit_rain_relations, verdict
from polarcast.data.reading.reader import only_test, open_reader
from polarcast.data.shards.manifest import Manifest

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

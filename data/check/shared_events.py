"""Find events that two folders of shards share, so that held-back events are none that a model was trained on."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from polarcast.data.loading.reader import only_test, open_reader
from polarcast.data.origins import are_near, same_place
from polarcast.data.shards.manifest import Manifest


def shared_event(manifest: Manifest, other: Manifest) -> str:
    """Describe the first event of a manifest that another one has too; empty if there is none.

    Two events are shared if they have a frame in common, by the digest of one variable at one height, or if they are of
    one place and less than six hours apart.
    """
    for event, here in manifest.origins.items():
        for known, there in other.origins.items():
            if same_place(here.place, there.place) and are_near(here, there):
                return f"event {event:03d} is of the place and time of event {known:03d} ({there.period})"
    variables = [v for v in manifest.variables if v in other.variables]
    heights = [h for h in manifest.heights_km if h in other.heights_km]
    if not variables or not heights or manifest.shape != other.shape:
        return ""
    known_frames = dict(_frames(other, variables[0], heights[0]))
    for digest, event in _frames(manifest, variables[0], heights[0]):
        if digest in known_frames:
            return f"event {event:03d} has a frame of event {known_frames[digest]:03d}"
    return ""


def _frames(manifest: Manifest, variable: str, height: float) -> Iterator[tuple[bytes, int]]:
    """Yield the digest and the event of each frame with echo."""
    every = replace(only_test(manifest), selection={**manifest.selection, "min_strong_pixels": 0})
    reader = open_reader(every, "test", variables=(variable,), heights_km=(height,), rain=False)
    for window, event in enumerate(reader.events().tolist()):
        field = reader.read([window]).radar.numpy()
        if np.any(field):
            yield hashlib.blake2b(field.tobytes(), digest_size=16).digest(), event

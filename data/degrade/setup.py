"""Properties of an archive that perturbations depend on: its noise, its floor, and the grid around the radar."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.data.synth.attainable import PIXEL_NOISE, VARIABLES, world_of

FLOOR_DBZ = 5.0
"""Reflectivity below which there is no echo, where an archive does not record it."""
_COMPOSITES = "sequences"


@dataclass(frozen=True)
class RadarSetup:
    """Properties of an archive that perturbations depend on.

    Attributes:
        spacing_km: Pixel spacing in km.
        noise: Standard deviation of the noise of each variable, in its unit, in echo of 38 dBZ and above.
        noise_growth: Factor on it per 10 dB below 38 dBZ, at most four times.
        floor_dbz: Echo that falls below it is lost.
        has_site: Whether the archive is of one radar in the center of the grid.
    """

    spacing_km: float
    noise: Mapping[str, float]
    noise_growth: Mapping[str, float]
    floor_dbz: float = FLOOR_DBZ
    has_site: bool = True

    @classmethod
    def of(cls, manifest: Manifest) -> "RadarSetup":
        """Return the setup of shards: of the preset for synthetic storms, else typical values.

        Typical noise is 1 dB of zh, 0.2 dB of zdr and 0.3 deg/km of kdp (Bringi & Chandrasekar 2001).
        """
        has_site = manifest.provenance.get("kind") != _COMPOSITES
        try:
            world = world_of(manifest.provenance)
        except BadInput:
            typical = dict(zip(VARIABLES, PIXEL_NOISE, strict=True))
            return cls(manifest.spacing_km, typical, dict.fromkeys(VARIABLES, 1.0), has_site=has_site)
        noise, growth = (dict(zip(VARIABLES, of, strict=True)) for of in (world.noise, world.noise_growth))
        return cls(manifest.spacing_km, noise, growth, world.floor_dbz, has_site)

    def as_record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"spacing_km": self.spacing_km, "noise": dict(self.noise), "noise_growth": dict(self.noise_growth),
                "floor_dbz": self.floor_dbz, "has_site": self.has_site}  # fmt: skip

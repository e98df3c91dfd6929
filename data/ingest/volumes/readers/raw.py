"""Sweeps as a file has them, before fields are chosen: what every reader returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from polarcast.data.ingest.volumes.volume import Mask, RadarSite, Real

PPI_MODES = ("azimuth_surveillance", "sector", "manual_ppi", "ppi", "surveillance", "sur", "sector_scan", "")
"""Modes of sweeps that rotate in azimuth; files without a mode contain such sweeps."""


@dataclass(frozen=True)
class Moment:
    """One field of a sweep.

    Attributes:
        values: (a, r) in `units`, NaN where there is none.
        units: Units as in the file; empty if it does not tell them.
        unseen: (a, r), gates that were not observed; None if the file has one code for them and for no echo.
        has_no_echo: Whether a gate has the code for no echo. A file without any may write the one for unseen instead.
        fold_deg: Folding interval if the field is a phase.
        standard_name: As in the file; empty if it does not tell one.
    """

    values: Real = field(repr=False)
    units: str = ""
    unseen: Mask | None = field(default=None, repr=False)
    has_no_echo: bool = False
    fold_deg: float = 360.0
    standard_name: str = ""

    def rays(self, chosen: npt.NDArray[np.int64]) -> "Moment":
        """Return the moment of the chosen rays, in their order."""
        unseen = None if self.unseen is None else self.unseen[chosen]
        return replace(self, values=self.values[chosen], unseen=unseen)


@dataclass(frozen=True)
class RawSweep:
    """One sweep as stored.

    Attributes:
        elevation_deg: (a,); NaN where the file has none.
        azimuth_deg: (a,) centre of each ray, clockwise from north; NaN where the file has none.
        range_m: (r,) centres of the gates.
        time: (a,) UTC, datetime64[ms]; NaT where the file has none.
        moments: Field by its name in the file.
        mode: Scan mode in lower case; empty if the file does not tell it.
        flaw: Why the sweep must not be used, as the file tells; empty if it may be.
        left_out: Number of rays that the reader left out, by reason.
        unusable: Fields that the file has and that can't be used, and why.
        task: Name of the scan in the radar's schedule; empty if the file does not tell it.
    """

    elevation_deg: Real
    azimuth_deg: Real
    range_m: Real
    time: npt.NDArray[np.datetime64] = field(repr=False)
    moments: Mapping[str, Moment] = field(repr=False)
    mode: str = ""
    flaw: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    task: str = ""

    @property
    def is_ppi(self) -> bool:
        """Whether the sweep rotates in azimuth."""
        return self.mode in PPI_MODES and len(self.azimuth_deg) > 1

    @property
    def elevation(self) -> float:
        """Elevation in degrees: the median of the rays; NaN if none has one."""
        known = self.elevation_deg[np.isfinite(self.elevation_deg)]
        return float(np.median(known)) if len(known) else np.nan

    @property
    def start(self) -> np.datetime64:
        """Time of the first ray; NaT if none has one. Times an hour from the median are not of the sweep."""
        known = self.time[~np.isnat(self.time)]
        if not len(known):
            return np.datetime64("NaT", "ms")
        middle = np.sort(known)[len(known) // 2]
        return np.datetime64(known[np.abs(known - middle) <= np.timedelta64(1, "h")].min())

    def with_gates(self, chosen: slice) -> "RawSweep":
        """Return the sweep with the chosen gates."""
        moments = {
            name: replace(
                moment,
                values=moment.values[:, chosen],
                unseen=None if moment.unseen is None else moment.unseen[:, chosen],
            )
            for name, moment in self.moments.items()
        }
        return replace(self, range_m=self.range_m[chosen], moments=moments)

    def with_rays(self, chosen: npt.NDArray[np.int64]) -> "RawSweep":
        """Return the sweep with the chosen rays, in their order."""
        moments = {name: moment.rays(chosen) for name, moment in self.moments.items()}
        return replace(
            self,
            elevation_deg=self.elevation_deg[chosen],
            azimuth_deg=self.azimuth_deg[chosen],
            time=self.time[chosen],
            moments=moments,
        )


@dataclass(frozen=True)
class RawVolume:
    """Sweeps of one file.

    Attributes:
        kind: Format.
        site: Where the radar stands, as the file tells.
        sweeps: Sweeps in the order of the file.
        band: S, C or X; None if the file does not contain it.
    """

    kind: str
    site: RadarSite
    sweeps: tuple[RawSweep, ...]
    band: str | None = None

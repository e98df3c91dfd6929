"""Families of sums: the quantities accumulated for each field, and their axes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from polarcast.hpc.scores import categorical, continuous, ensemble, fss, sal, spectra
from polarcast.hpc.scores.protocol import MEAN, Protocol

Sums = Callable[[Tensor, Tensor, Protocol], Tensor]
_PIXELS_IN_CACHE = 2**16
PAPER_CSI_LEVEL = 0.35
"""Event threshold of the source paper's CSI, as a share of the observed frame's value range."""


@dataclass(frozen=True)
class Family:
    """A family of sums that share axes and columns.

    Attributes:
        axes: Names of the protocol's axes, outermost first.
        columns: Names of the summed quantities.
        sums: Function of an ensemble (n, m, y, x), observed fields (n, y, x) and a protocol that returns
            (n, *axes, columns). None where the caller derives the sums from another family and further data.
        counts: Whether the sums are integers; they are stored as int64.
        needs_members: Whether the family requires at least two members.
        needs_rain: Whether the family requires rain rates in mm/h.
    """

    axes: tuple[str, ...]
    columns: tuple[str, ...]
    sums: Sums | None
    counts: bool = False
    needs_members: bool = False
    needs_rain: bool = False

    def shape(self, protocol: Protocol) -> tuple[int, ...]:
        """Return the shape of the sums of one field, (*axes, columns)."""
        return (*(len(protocol.axis(axis)) for axis in self.axes), len(self.columns))

    def applies(self, protocol: Protocol) -> bool:
        """Return whether the family is defined for a protocol."""
        if (self.needs_members and protocol.members < 2) or (self.needs_rain and protocol.unit != "mm/h"):
            return False
        return all(self.shape(protocol))


def score_fields(
    forecast: Tensor, observed: Tensor, protocol: Protocol, only: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Accumulate the sums of each field.

    Args:
        forecast: Ensemble of m members, (n, m, y, x).
        observed: Observed fields in the same units, (n, y, x).
        protocol: Coordinates to score at.
        only: Names of the families to compute; all by default.

    Returns:
        Family name → (n, *axes, columns).

    Raises:
        ValueError: the shapes do not match each other or the protocol.
    """
    n, members, *shape = forecast.shape
    if observed.shape != (n, *shape) or members != protocol.members or tuple(shape) != protocol.shape:
        raise ValueError(
            f"expected (n, {protocol.members}, y, x) and (n, y, x) fields of {protocol.shape}, "
            f"got {tuple(forecast.shape)} and {tuple(observed.shape)}"
        )
    # Small chunks on a CPU keep intermediate results in its cache.
    chunk = n if forecast.is_cuda else max(1, _PIXELS_IN_CACHE // protocol.pixels)
    chunks = list(zip(forecast.split(chunk), observed.split(chunk), strict=True))
    selected = {name: family for name, family in families(protocol).items() if only is None or name in only}
    functions = {name: family.sums for name, family in selected.items() if family.sums}
    return {name: torch.cat([sums(*part, protocol) for part in chunks]) for name, sums in functions.items()}


def families(protocol: Protocol) -> dict[str, Family]:
    """Return the families that are defined for a protocol."""
    return {name: family for name, family in FAMILIES.items() if family.applies(protocol)}


def _continuous(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return continuous.moments(forecast.mean(1), observed, protocol.classes)


def _paper_csi(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    """Count events above 0.35 of the observed field's value range; a constant field has no events."""
    low, high = observed.amin((-2, -1), keepdim=True), observed.amax((-2, -1), keepdim=True)
    level = torch.where(high > low, low + PAPER_CSI_LEVEL * (high - low), torch.inf)
    forecast, observed = forecast.mean(1) > level, observed > level
    parts = (forecast & observed, ~forecast & observed, forecast & ~observed, ~forecast & ~observed)
    return torch.stack([part.sum((-2, -1)) for part in parts], -1)


def _contingency(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return categorical.contingency(forecast.mean(1), observed, protocol.threshold)


def _pooled(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return categorical.pooled_contingency(forecast.mean(1), observed, protocol.threshold, protocol.pool)


def _multi_event(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return categorical.multi_event_contingency(forecast.mean(1), observed, protocol.threshold, protocol.window)


def _fractions(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return fss.fractions(forecast.mean(1), observed, protocol.threshold, protocol.window)


def _spectrum(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    fields = (observed, *_forecast_fields(forecast, protocol))
    observed_power, *forecast_powers = (_in_bands(spectra.spectrum(f), protocol) for f in fields)
    return torch.stack([torch.stack([power, observed_power], -1) for power in forecast_powers], 1)


def _in_bands(spectrum: Tensor, protocol: Protocol) -> Tensor:
    """Sum power (n, k) over the protocol's wavenumber bands, (n, band)."""
    bounds = [int(k) for k in protocol.axis("wavenumber")] + [spectrum.shape[1]]
    return torch.stack([spectrum[:, low:high].sum(1) for low, high in pairwise(bounds)], 1)


def _histogram(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    observed_counts = spectra.histogram(observed, protocol.edges)
    forecast_counts = [spectra.histogram(f, protocol.edges) for f in _forecast_fields(forecast, protocol)]
    return torch.stack([torch.stack([counts, observed_counts], -1) for counts in forecast_counts], 1)


def _joint(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return spectra.joint_histogram(forecast.mean(1), observed, protocol.edges)[..., None]


def _forecast_fields(forecast: Tensor, protocol: Protocol) -> list[Tensor]:
    return [forecast.mean(1) if field == MEAN else forecast[:, 0] for field in protocol.fields]


def _sal(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return sal.sal_sums(forecast.mean(1), observed).to(forecast.device)


def _crps(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return ensemble.crps_sums(forecast, observed)[:, 0]


def _threshold_crps(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return ensemble.crps_sums(forecast, observed, protocol.threshold)


def _spread(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return ensemble.spread_sums(forecast, observed)


def _ranks(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return ensemble.rank_counts(forecast, observed)[..., None]


def _probability(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return ensemble.probability_counts(forecast, observed, protocol.threshold)


FAMILIES: dict[str, Family] = {
    "continuous": Family(("class",), continuous.MOMENTS, _continuous),
    "paper_csi": Family((), categorical.COUNTS, _paper_csi, counts=True),
    "contingency": Family(("threshold",), categorical.COUNTS, _contingency, counts=True),
    "pooled": Family(("threshold", "pool"), categorical.COUNTS, _pooled, counts=True),
    "multi_event": Family(("threshold", "window"), categorical.COUNTS, _multi_event, counts=True),
    "by_change": Family(("change", "threshold"), categorical.COUNTS, None, counts=True),
    "fractions": Family(("threshold", "window"), fss.PARTS, _fractions),
    "spectrum": Family(("field", "wavenumber"), ("forecast", "observed"), _spectrum),
    "histogram": Family(("field", "bin"), ("forecast", "observed"), _histogram, counts=True),
    "joint": Family(("bin", "observed_bin"), ("pixels",), _joint, counts=True),
    "sal": Family((), sal.PARTS, _sal, needs_rain=True),
    "crps": Family((), ensemble.CRPS_PARTS, _crps),
    "threshold_crps": Family(("threshold",), ensemble.CRPS_PARTS, _threshold_crps),
    "spread": Family((), ensemble.SPREAD_PARTS, _spread, needs_members=True),
    "ranks": Family(("rank",), ("count",), _ranks, needs_members=True),
    "probability": Family(
        ("threshold", "probability"), ("pixels", "events"), _probability, counts=True, needs_members=True
    ),
}
"""All families by name; deterministic families score the ensemble mean."""

"""Families of sums: the quantities accumulated for each field, and their axes."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from polarcast.hpc.scores import categorical, continuous, ensemble, fss, sal, similarity, spectra
from polarcast.hpc.scores.classes import joint_counts
from polarcast.hpc.scores.protocol import MEAN, MEMBER, Protocol

_PIXELS_IN_CACHE = 2**16
PAPER_CSI_LEVEL = 0.35
"""Event threshold of the source paper's CSI, as a share of the observed frame's value range."""


@dataclass(frozen=True)
class ScoredFields:
    """Forecast and observation to score together.

    A pixel is missing if the observation or any member is NaN there. Missing pixels are NaN in the observation and in
    every member, so that no family sees a value there.

    Attributes:
        ensemble: Ensemble of m members, (n, m, y, x).
        observed: Observed fields in the same units, (n, y, x).
        edges: Bin edges of histograms in the same units.
        missing: Missing pixels, (n, y, x); None if there are none.
        observations: Number of pixels with an observation, (n,) int64; some of them may lack a forecast.
    """

    ensemble: Tensor
    observed: Tensor
    edges: tuple[float, ...]
    missing: Tensor | None
    observations: Tensor

    @classmethod
    def of(cls, ensemble: Tensor, observed: Tensor, edges: tuple[float, ...]) -> "ScoredFields":
        """Find the missing pixels, and set them to NaN in all fields if there are any."""
        complete = torch.full((len(observed),), observed.shape[1:].numel(), device=observed.device)
        # The sum of all values is NaN if one of them is, and much faster than a comparison of each.
        if not (ensemble.sum() + observed.sum()).isnan():
            return cls(ensemble, observed, edges, None, complete)
        unobserved = observed.isnan()
        missing = unobserved | ensemble.isnan().any(1)
        if not missing.any():  # infinite values of both signs
            return cls(ensemble, observed, edges, None, complete)
        members, truth = ensemble.masked_fill(missing[:, None], math.nan), observed.masked_fill(missing, math.nan)
        return cls(members, truth, edges, missing, complete - unobserved.sum((1, 2)))

    @cached_property
    def pixels(self) -> Tensor:
        """Number of scored pixels, those that are not missing, (n,) int64."""
        return self.observations if self.missing is None else (~self.missing).sum((1, 2))

    @cached_property
    def filled(self) -> tuple[Tensor, Tensor]:
        """Ensemble and observation with 0 at missing pixels, where the forecast has no error and no spread."""
        if self.missing is None:
            return self.ensemble, self.observed
        return self.ensemble.masked_fill(self.missing[:, None], 0), self.observed.masked_fill(self.missing, 0)

    @cached_property
    def ordered(self) -> Tensor:
        """Members of each pixel in ascending order, with 0 at missing pixels, (n, m, y, x)."""
        members = self.filled[0]
        return members if members.shape[1] == 1 else ensemble.sort_members(members)

    @cached_property
    def filled_mean(self) -> Tensor:
        """Ensemble mean with 0 at missing pixels, (n, y, x)."""
        return self.mean if self.missing is None else self.mean.masked_fill(self.missing, 0)

    @cached_property
    def mean(self) -> Tensor:
        """Ensemble mean, (n, y, x)."""
        return self.ensemble[:, 0] if self.ensemble.shape[1] == 1 else self.ensemble.mean(1)

    @cached_property
    def joint(self) -> Tensor:
        """Counts of `spectra.joint_classes` of the mean, (n, class, class)."""
        return spectra.joint_classes(self.mean, self.observed, self.edges)


FieldSums = Callable[[ScoredFields, Protocol], Tensor]


@dataclass(frozen=True)
class Family:
    """A family of sums that share axes and columns.

    Attributes:
        axes: Names of the protocol's axes, outermost first.
        columns: Names of the summed quantities.
        sums: Function of fields and a protocol that returns (n, *axes, columns). None where the caller derives the sums
            from another family and further data.
        counts: Whether the sums are integers; they are stored as int64.
        needs_members: Whether the family requires at least two members.
        needs_rain: Whether the family requires rain rates in mm/h.
        least_side: Smallest side of a field in pixels.
    """

    axes: tuple[str, ...]
    columns: tuple[str, ...]
    sums: FieldSums | None
    counts: bool = False
    needs_members: bool = False
    needs_rain: bool = False
    least_side: int = 1

    def shape(self, protocol: Protocol) -> tuple[int, ...]:
        """Return the shape of the sums of one field, (*axes, columns)."""
        return (*(len(protocol.axis(axis)) for axis in self.axes), len(self.columns))

    def applies(self, protocol: Protocol) -> bool:
        """Return whether the family is defined for a protocol."""
        if (self.needs_members and protocol.members < 2) or (self.needs_rain and protocol.unit != "mm/h"):
            return False
        return min(protocol.shape) >= self.least_side and all(self.shape(protocol))


def score_fields(
    forecast: Tensor, observed: Tensor, protocol: Protocol, only: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Accumulate the sums of each field.

    Pixels at which the observation or a member is NaN are missing and count in no family but `observed`, which counts
    them: a forecast cannot hide an error behind NaN unseen.

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
    parts = zip(forecast.split(chunk), observed.split(chunk), strict=True)
    chunks = [ScoredFields.of(*part, protocol.edges) for part in parts]
    selected = {name: family for name, family in families(protocol).items() if only is None or name in only}
    functions = {name: family.sums for name, family in selected.items() if family.sums}
    return {name: torch.cat([sums(part, protocol) for part in chunks]) for name, sums in functions.items()}


@cache
def families(protocol: Protocol) -> Mapping[str, Family]:
    """Return the families that are defined for a protocol."""
    return {name: family for name, family in FAMILIES.items() if family.applies(protocol)}


def _continuous(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return continuous.moments(fields.mean, fields.observed, protocol.classes)


def _paper_csi(fields: ScoredFields, protocol: Protocol) -> Tensor:
    """Count events above 0.35 of the observed field's value range; a constant field has no events."""
    observed = fields.observed
    least, most = (observed, observed) if fields.missing is None else map(observed.nan_to_num, (math.inf, -math.inf))
    low, high = least.amin((-2, -1), keepdim=True), most.amax((-2, -1), keepdim=True)
    level = torch.where(high > low, low + PAPER_CSI_LEVEL * (high - low), torch.inf)
    counts = joint_counts((fields.mean > level).byte(), (observed > level).byte(), 2)
    # NaN is above no level: missing pixels are among those without an event in either field.
    counts[:, 0, 0] -= observed.shape[1:].numel() - fields.pixels
    return torch.stack([counts[:, f, o] for f, o in ((1, 1), (0, 1), (1, 0), (0, 0))], -1)


def _contingency(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return categorical.contingency(fields.mean, fields.observed, protocol.threshold)


def _pooled(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return categorical.pooled_contingency(fields.mean, fields.observed, protocol.threshold, protocol.pool)


def _multi_event(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return categorical.multi_event_contingency(fields.mean, fields.observed, protocol.threshold, protocol.window)


def _fractions(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return fss.fractions(fields.mean, fields.observed, protocol.threshold, protocol.window)


def _spectrum(fields: ScoredFields, protocol: Protocol) -> Tensor:
    filled = {MEAN: fields.filled_mean, MEMBER: fields.filled[0][:, 0]}
    scored = (fields.filled[1], *(filled[field] for field in protocol.fields))
    observed_power, *forecast_powers = (_in_bands(spectra.spectrum(f), protocol) for f in scored)
    return torch.stack([torch.stack([power, observed_power], -1) for power in forecast_powers], 1)


def _in_bands(spectrum: Tensor, protocol: Protocol) -> Tensor:
    """Sum power (n, k) over the protocol's wavenumber bands, (n, band)."""
    bounds = torch.tensor([*protocol.axis("wavenumber"), spectrum.shape[1]], dtype=torch.float64)
    lengths = bounds.diff().long().to(spectrum.device).expand(len(spectrum), -1)
    return torch.segment_reduce(spectrum.contiguous(), "sum", lengths=lengths, axis=1)


def _histogram(fields: ScoredFields, protocol: Protocol) -> Tensor:
    of_mean, observed = spectra.marginal_histograms(fields.joint)
    members = [spectra.histogram(fields.ensemble[:, 0], protocol.edges) for _ in protocol.fields[1:]]
    return torch.stack([torch.stack([counts, observed], -1) for counts in (of_mean, *members)], 1)


def _joint(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return fields.joint[:, 1:, 1:, None]


def _sal(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return sal.sal_sums(fields.mean, fields.observed).to(fields.observed.device)


def _observed(fields: ScoredFields, protocol: Protocol) -> Tensor:
    pixels = torch.full_like(fields.pixels, protocol.pixels)
    return torch.stack([pixels, fields.observations, fields.pixels], -1)


def _crps(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return _with_pixels(ensemble.crps_sums(fields.ordered, fields.filled[1])[:, 0], fields)


def _threshold_crps(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return _with_pixels(ensemble.crps_sums(fields.ordered, fields.filled[1], protocol.threshold), fields)


def _pooled_crps(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return ensemble.pooled_crps_sums(fields.ensemble, fields.observed, protocol.pool)


def _quantiles(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return _with_pixels(ensemble.quantile_sums(fields.ordered, fields.filled[1], protocol.quantile), fields)


def _similarity(fields: ScoredFields, protocol: Protocol) -> Tensor:
    forecasts = {MEAN: fields.mean, MEMBER: fields.ensemble[:, 0]}
    scored = (forecasts[field] for field in protocol.fields)
    return torch.stack([similarity.ssim_sums(of, fields.observed, protocol.data_range) for of in scored], 1)


def _spread(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return _with_pixels(ensemble.spread_sums(*fields.filled), fields)


def _with_pixels(sums: Tensor, fields: ScoredFields) -> Tensor:
    """Set the pixels, the first column of sums (n, …, columns), to those that are not missing."""
    sums[..., 0] = fields.pixels.view(-1, *[1] * (sums.ndim - 2))
    return sums


def _ranks(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return ensemble.rank_counts(fields.ensemble, fields.observed)[..., None]


def _probability(fields: ScoredFields, protocol: Protocol) -> Tensor:
    return ensemble.probability_counts(fields.ensemble, fields.observed, protocol.threshold)


FAMILIES: dict[str, Family] = {
    "observed": Family((), ("pixels", "observed", "scored"), _observed, counts=True),
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
    "pooled_crps": Family(("pooling", "pool"), ensemble.CRPS_PARTS, _pooled_crps),
    "quantiles": Family(("quantile",), ensemble.QUANTILE_PARTS, _quantiles, needs_members=True),
    "similarity": Family(("field",), similarity.PARTS, _similarity, least_side=similarity.WINDOW),
    "spread": Family((), ensemble.SPREAD_PARTS, _spread, needs_members=True),
    "ranks": Family(("rank",), ("count",), _ranks, needs_members=True),
    "probability": Family(
        ("threshold", "probability"), ("pixels", "events"), _probability, counts=True, needs_members=True
    ),
}
"""All families by name; deterministic families score the ensemble mean."""
ADDED_LATER = frozenset({"observed", "pooled_crps", "quantiles", "similarity"})
"""Families that intact records of an earlier version lack."""

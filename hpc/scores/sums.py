"""Families of sums: what is added up of each field, and along which axes."""

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
"""The source paper's CSI counts pixels above this share of the observed frame's range."""


@dataclass(frozen=True)
class Family:
    """Sums of one kind.

    Attributes:
        axes: Names of the protocol's axes, outermost first.
        columns: What is summed up.
        sums: Of an ensemble (n, m, y, x) and what was observed (n, y, x), under a protocol: (n, *axes, columns).
            None for what is made of another family's sums by whoever knows more than these fields.
        counts: Whether they are whole numbers, and stored as such.
        needs_members: Whether it means anything for an ensemble only.
        needs_rain: Whether it means anything for rain rates only.
    """

    axes: tuple[str, ...]
    columns: tuple[str, ...]
    sums: Sums | None
    counts: bool = False
    needs_members: bool = False
    needs_rain: bool = False

    def shape(self, protocol: Protocol) -> tuple[int, ...]:
        """Of its sums of one field."""
        return (*(len(protocol.axis(axis)) for axis in self.axes), len(self.columns))

    def applies(self, protocol: Protocol) -> bool:
        """Whether there is anything to sum up."""
        if (self.needs_members and protocol.members < 2) or (self.needs_rain and protocol.unit != "mm/h"):
            return False
        return all(self.shape(protocol))


def score_fields(
    forecast: Tensor, observed: Tensor, protocol: Protocol, only: Collection[str] | None = None
) -> dict[str, Tensor]:
    """All sums of each field, or those of some families: family → (n, *axes, columns).

    Args:
        forecast: (n, m, y, x), m members.
        observed: (n, y, x) in the same units.
        protocol: What is to be scored.
        only: Names of the families that are wanted, all by default.

    Raises:
        ValueError: the shapes don't belong together.
    """
    n, members, *shape = forecast.shape
    if observed.shape != (n, *shape) or members != protocol.members or tuple(shape) != protocol.shape:
        raise ValueError(
            f"expected (n, {protocol.members}, y, x) and (n, y, x) fields of {protocol.shape}, "
            f"got {tuple(forecast.shape)} and {tuple(observed.shape)}"
        )
    # On a CPU a few fields at a time: what is made of them stays in the processor's cache.
    together = n if forecast.is_cuda else max(1, _PIXELS_IN_CACHE // protocol.pixels)
    parts = list(zip(forecast.split(together), observed.split(together), strict=True))
    there = {name: family for name, family in families(protocol).items() if only is None or name in only}
    wanted = {name: family.sums for name, family in there.items() if family.sums}
    return {name: torch.cat([sums(*part, protocol) for part in parts]) for name, sums in wanted.items()}


def families(protocol: Protocol) -> dict[str, Family]:
    """Those that apply."""
    return {name: family for name, family in FAMILIES.items() if family.applies(protocol)}


def _continuous(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return continuous.moments(forecast.mean(1), observed, protocol.classes)


def _paper_csi(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    """Counts above 0.35 of the observed field's range; nowhere if it is constant."""
    low, high = observed.amin((-2, -1), keepdim=True), observed.amax((-2, -1), keepdim=True)
    level = torch.where(high > low, low + PAPER_CSI_LEVEL * (high - low), torch.inf)
    said, seen = forecast.mean(1) > level, observed > level
    parts = (said & seen, ~said & seen, said & ~seen, ~said & ~seen)
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
    seen, *said = (_in_bands(spectra.spectrum(f), protocol) for f in (observed, *_pictures(forecast, protocol)))
    return torch.stack([torch.stack([f, seen], -1) for f in said], 1)


def _in_bands(spectrum: Tensor, protocol: Protocol) -> Tensor:
    """Power (n, k) summed up between the protocol's wavenumbers, (n, band)."""
    bounds = [int(k) for k in protocol.axis("wavenumber")] + [spectrum.shape[1]]
    return torch.stack([spectrum[:, low:high].sum(1) for low, high in pairwise(bounds)], 1)


def _histogram(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    seen = spectra.histogram(observed, protocol.edges)
    pictures = _pictures(forecast, protocol)
    return torch.stack([torch.stack([spectra.histogram(f, protocol.edges), seen], -1) for f in pictures], 1)


def _joint(forecast: Tensor, observed: Tensor, protocol: Protocol) -> Tensor:
    return spectra.joint_histogram(forecast.mean(1), observed, protocol.edges)[..., None]


def _pictures(forecast: Tensor, protocol: Protocol) -> list[Tensor]:
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
"""Deterministic scores are of the ensemble mean."""

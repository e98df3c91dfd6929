"""Information that ZDR and KDP add to ZH about future reflectivity.

Run `python -m polarcast.data.synth.nowcast_information` (about 10 minutes on one core).

Storms are independent and observed at 3 km only. For every pixel, a small network predicts whether ZH reaches 35 dBZ
one lead time later. Its inputs are local means at several scales, advected with the storm: ZH and its tendency (arm
`zh`), plus ZDR and KDP anomalies at given ZH (arm `dual`). Each event is forecast by networks trained on other events;
the interval comes from resampling events.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from polarcast.data.explore.scales import motion
from polarcast.data.synth.generate import PRESETS, generate_event

Real = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

THRESHOLD_DBZ = 35.0
SCALES_KM = (0.0, 1.5, 3.0, 6.0, 12.0)
HISTORY = 3
"""Frames over which the tendency is computed."""

WINDOWS = 2
"""Forecasts per event."""
SPACING = 5
"""Frames between forecasts."""
ZH_INPUTS = 2 * len(SCALES_KM)
ALL_INPUTS = 4 * len(SCALES_KM)


@dataclass(frozen=True)
class EchoPixels:
    """Features and outcomes of the pixels of one event that have echo nearby."""

    features: npt.NDArray[np.float16]
    """(n, 4 * scales): zh, its tendency, zdr anomaly, kdp anomaly, each at all scales."""
    hit: Mask
    """Whether ZH reaches 35 dBZ one lead time later, (n,)."""
    unforeseen: int
    """Hits without echo nearby; neither arm forecasts them."""


@dataclass(frozen=True)
class Information:
    """Critical success index (CSI) of both arms at 35 dBZ, and the gain with an 80% interval over events."""

    lead_min: float
    events: int
    csi_zh: float
    csi_dual: float
    gain: float
    low: float
    high: float


def anomaly(zh: Real, other: Real) -> Real:
    """Subtract from `other` its mean at the pixel's zh (bins of 2.5 dB over the whole event); 0 without echo."""
    wet = zh > 10
    bins = np.clip(zh / 2.5, 0, 24).astype(int)
    count = np.bincount(bins[wet], minlength=25)
    mean = np.bincount(bins[wet], other[wet], minlength=25) / np.maximum(count, 1)
    return np.where(wet, other - mean[bins], 0).astype(np.float32)


def smooth(field: Real, weight: Real, scale_km: float) -> Real:
    """Weighted local mean of a field."""
    if scale_km == 0:
        return field
    norm = gaussian_filter(weight, scale_km) + np.float32(1e-2)
    return np.asarray(gaussian_filter(field * weight, scale_km) / norm)


def _advect(field: Real, drift: tuple[float, float], frames: int) -> Real:
    """Move the field by whole pixels; pixels entering the grid are unknown (0)."""
    moved = np.zeros_like(field)
    size = field.shape[-1]
    shift = [int(np.clip(round(d * frames), -size, size)) for d in drift]
    to = tuple(slice(max(s, 0), size + min(s, 0)) for s in shift)
    source = tuple(slice(max(-s, 0), size + min(-s, 0)) for s in shift)
    moved[to] = field[source]
    return moved


def make_samples(radar: Real, lead: int, start: int) -> EchoPixels:
    """Make the samples of one event (t, 3, 3, y, x): last observed frame `start`, forecast `lead` frames ahead."""
    zh, zdr, kdp = radar[start - HISTORY : start + 1, :, 1].transpose(1, 0, 2, 3)
    drift = motion(zh)
    tendency = zh[-1] - _advect(zh[0], drift, HISTORY)
    ones, wet = np.ones_like(zh[-1]), (zh[-1] > 10).astype(np.float32)
    layers = [(zh[-1], ones), (tendency, ones), (anomaly(zh, zdr)[-1], wet), (anomaly(zh, kdp)[-1], wet)]
    maps = [smooth(field, weight, s) for field, weight in layers for s in SCALES_KM]
    features = np.stack([_advect(m, drift, lead) for m in maps], axis=-1)
    known = (_advect(ones, drift, lead) > 0) & _circle(zh.shape[-1])
    near = known & (features[..., len(SCALES_KM) - 1] > 3)
    hit = radar[start + lead, 0, 1] >= THRESHOLD_DBZ
    return EchoPixels(features[near].astype(np.float16), hit[near], int((hit & known & ~near).sum()))


def _circle(size: int) -> Mask:
    """Mask of the radar coverage."""
    y, x = np.mgrid[:size, :size] - size // 2
    return np.asarray(np.hypot(y, x) < 145 / 256 * size)


def _network(inputs: int) -> torch.nn.Module:
    width = 48
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, width), torch.nn.SiLU(), torch.nn.Linear(width, width), torch.nn.SiLU(),
        torch.nn.Linear(width, 1),
    )  # fmt: skip


def train(features: Real, hit: Mask, seed: int, steps: int, batch: int = 4096) -> torch.nn.Module:
    """Train a network for the log-odds of a hit on standardized features (n, f)."""
    torch.manual_seed(seed)
    network = _network(features.shape[1])
    x, y = torch.from_numpy(features), torch.from_numpy(hit.astype(np.float32))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(x), (batch,), generator=order)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(x[chosen])[:, 0], y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def counts(forecast: Mask, hit: Mask) -> Real:
    """Count hits, misses and false alarms."""
    return np.array([(forecast & hit).sum(), (~forecast & hit).sum(), (forecast & ~hit).sum()], dtype=np.float32)


def csi(sums: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Compute the critical success index of summed counts (..., 3)."""
    return sums[..., 0] / np.maximum(sums.sum(axis=-1), 1)


def _best_threshold(odds: Real, hit: Mask) -> float:
    """Threshold of the log-odds that maximizes CSI."""
    candidates = np.linspace(-3, 2, 51)
    scores = [csi(counts(odds > c, hit)) for c in candidates]
    return float(candidates[int(np.argmax(scores))])


def score_arm(events: Sequence[EchoPixels], inputs: int, folds: int, seed: int, steps: int = 1500) -> Real:
    """Compute the counts (events, 3) of the arm that uses the first `inputs` features.

    Each event is forecast by a network trained on the other folds, with at most 30,000 pixels of each event.
    """
    result = np.zeros((len(events), 3), np.float32)
    for fold in range(folds):
        training = [s for i, s in enumerate(events) if i % folds != fold]
        thin = [slice(None, None, -(-len(s.hit) // 30_000) or 1) for s in training]
        features = np.concatenate([s.features[t, :inputs] for s, t in zip(training, thin, strict=True)])
        hit = np.concatenate([s.hit[t] for s, t in zip(training, thin, strict=True)])
        mean, sd = features.mean(axis=0, dtype=np.float32), features.std(axis=0, dtype=np.float32) + 1e-6
        standard = (features - mean) / sd
        network = train(standard, hit, seed + fold, steps)
        threshold = _best_threshold(_odds(network, standard), hit)
        for i in range(fold, len(events), folds):
            odds = _odds(network, (events[i].features[:, :inputs] - mean) / sd)
            result[i] = counts(odds > threshold, events[i].hit)
            result[i, 1] += events[i].unforeseen
    return result


def _odds(network: torch.nn.Module, features: Real) -> Real:
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(features))[:, 0].numpy())


def compare(zh: Real, dual: Real, lead_min: float, seed: int = 0) -> Information:
    """Compute the gain of the dual arm from the counts (events, 3) of both, with a paired bootstrap over events."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(zh), size=(2000, len(zh)))
    ratio = csi(dual[chosen].sum(axis=1)) / csi(zh[chosen].sum(axis=1)) - 1
    low, high = np.quantile(ratio, [0.1, 0.9])
    csi_zh, csi_dual = float(csi(zh.sum(axis=0))), float(csi(dual.sum(axis=0)))
    return Information(lead_min, len(zh), csi_zh, csi_dual, csi_dual / csi_zh - 1, float(low), float(high))


def measure(
    preset: str = "meiyu", events: int = 120, size: int = 256, seed: int = 1, leads: Sequence[int] = (5, 10)
) -> list[Information]:
    """Generate storms, train both arms, and compare them at each lead time (frames of 6 min)."""
    samples: dict[int, list[EchoPixels]] = {lead: [] for lead in leads}
    starts = range(HISTORY, HISTORY + WINDOWS * SPACING, SPACING)
    for event in range(events):
        radar = generate_event(PRESETS[preset], seed, event, size, starts[-1] + max(leads) + 1).radar
        for lead in leads:
            samples[lead].append(join([make_samples(radar, lead, start) for start in starts]))
    results = []
    for lead in leads:
        zh, dual = (score_arm(samples[lead], inputs, 2, seed) for inputs in (ZH_INPUTS, ALL_INPUTS))
        results.append(compare(zh, dual, 6.0 * lead))
    return results


def join(windows: Sequence[EchoPixels]) -> EchoPixels:
    """Concatenate the windows of one event."""
    return EchoPixels(
        np.concatenate([w.features for w in windows]),
        np.concatenate([w.hit for w in windows]),
        sum(w.unforeseen for w in windows),
    )


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="meiyu", choices=PRESETS)
    parser.add_argument("--events", type=int, default=120)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("lead  events  CSI35 zh  CSI35 dual  gain   80% interval")
    for r in measure(options.preset, options.events, options.size, options.seed):
        interval = f"{100 * r.low:+.1f} ... {100 * r.high:+.1f} %"
        line = f"{r.lead_min:3.0f} min  {r.events:4d}   {r.csi_zh:.3f}     {r.csi_dual:.3f}"
        print(f"{line}     {100 * r.gain:+.1f} %  {interval}")


if __name__ == "__main__":
    main()

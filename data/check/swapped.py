"""Tell ZDR from KDP by their growth with ZH, without assuming their calibration.

ZDR in dB grows about linearly with ZH in dBZ, and KDP by a power of Z (Bringi and Chandrasekar 2001, *Polarimetric
Doppler Weather Radar*, ch. 7). From the means of both in three classes of ZH, 10 dB apart, two contrasts follow. Both
are positive in rain, negative if the two are swapped, and free of an offset of either variable:

- bend: (ZDR₂ − ZDR₁)(KDP₃ − KDP₂) − (ZDR₃ − ZDR₂)(KDP₂ − KDP₁), positive if KDP bends upwards more than ZDR;
- rise: (ZDR₂ − ZDR₁) − (KDP₂ − KDP₁), positive if ZDR in dB rises more than KDP in deg/km between weak classes.

Each is compared with its standard error, by a jackknife over consecutive groups of frames that hold equal shares of the
strongest class (Efron and Stein 1981, Ann. Stat. 9, 586–596). Pixels and frames of one cell are not independent, and
noise of KDP in weak echo has heavy tails, so that counts of pixels alone say little.

Of 62 synthetic events of 32 × 32 pixels and three real ones none is taken for swapped. With the two exchanged most are
found, and the others are not judged: in the sparsest real one, bend and rise contradict each other.
"""

import numpy as np

from polarcast.data.check.facts import Real

FEWEST_IN_CLASS = 30
"""Minimum number of pixels in each class of ZH."""
_GROUPS = 10
_FEWEST_GROUPS = 3
_LEAST_T = 2.0
_LEAST_T_OF_SWAP = 3.0
"""Minimum contrast in standard errors: to tell the variables apart, and to call them swapped."""

ALIKE = "zdr and kdp can't be told apart"


def swapped(parts: Real) -> bool | None:
    """Return whether ZDR and KDP are swapped; None if that can't be told.

    Args:
        parts: (n, 2, classes = 3, 2) counts and sums of ZDR and KDP by class of ZH, of consecutive frames or events.
    """
    total = parts.sum(0)
    if total[0, :, 0].min() < FEWEST_IN_CLASS:
        return None
    shares = np.cumsum(parts[:, 0, -1, 0])
    group = np.minimum(_GROUPS * shares / shares[-1], _GROUPS - 1).astype(int)
    rests = [total - parts[group == g].sum(0) for g in np.unique(group)]
    rests = [rest for rest in rests if rest[0, :, 0].min() > 0]
    if len(rests) < _FEWEST_GROUPS:
        return None
    left_out = np.stack([_contrasts(rest) for rest in rests])
    variance = (len(rests) - 1) / len(rests) * ((left_out - left_out.mean(0)) ** 2).sum(0)
    t = _contrasts(total) / np.maximum(np.sqrt(variance), 1e-12)
    if t.max() < 0 and t.min() < -_LEAST_T_OF_SWAP:
        return True
    return False if t.max() > _LEAST_T and t.min() > -_LEAST_T else None


def _contrasts(sums: Real) -> Real:
    """Return bend and rise, (2,), from counts and sums (2, classes, 2)."""
    zdr, kdp = np.diff(sums[..., 1] / sums[..., 0], axis=-1)
    return np.array([zdr[0] * kdp[1] - zdr[1] * kdp[0], zdr[0] - kdp[0]])

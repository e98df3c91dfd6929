"""Check that masks of observed pixels tell no data from no echo."""

import numpy as np
import numpy.typing as npt

from polarcast.data.check.findings import WARNING, Finding
from polarcast.data.field_file import Field
from polarcast.data.observed import Mask

_FEW = 0.05

Counts = npt.NDArray[np.int64]


def count(observed: Mask, zh: Field) -> Counts:
    """Count the pixels, the observed ones, and those observed without echo, (3,), of one field and its mask (y, x)."""
    return np.array([observed.size, observed.sum(), (observed & (zh == 0)).sum()])


def observed_finding(counts: Counts) -> Finding:
    """Return the share that is observed; a warning if it is almost nothing but echo, so that no echo seems missing."""
    pixels, observed, dry = counts.tolist()
    if not observed:
        return Finding("observed", True, "no pixel is observed: nothing can be scored; check the masks", WARNING)
    found = f"{observed / pixels:.1%} of the pixels at the lowest height"
    if observed == pixels or dry >= _FEW * observed:
        return Finding("observed", True, found)
    fix = "if missing data (NaN) are no echo in your files, ingest them again: gridded sequences with --missing no-echo"
    echo = f"{(observed - dry) / observed:.0%} of them with echo: false alarms elsewhere count in no score"
    return Finding("observed", True, f"{found}, {echo}; {fix}", WARNING)

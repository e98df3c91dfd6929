"""Division of records without gaps into days."""

from itertools import pairwise

import numpy as np

from polarcast.data.ingest.event import Times

LONGEST_HOURS = 24.0
"""Length above which a record without gaps is divided at midnight UTC: one event of weeks could not be split."""


def days_of(times: Times) -> list[tuple[int, int]]:
    """Return ranges [start, stop) of ascending times: one, or one for each UTC day of more than `LONGEST_HOURS`."""
    days = times.astype("datetime64[D]")
    is_long = (times[-1] - times[0]) / np.timedelta64(1, "h") > LONGEST_HOURS
    cuts = (np.flatnonzero(days[1:] != days[:-1]) + 1).tolist() if is_long else []
    return list(pairwise([0, *cuts, len(times)]))

"""Where a radar stands: from the file, from a table of stations, or as given."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.geometry import KM_PER_DEGREE
from polarcast.data.ingest.volumes.pyart_bridge import pyart_library
from polarcast.data.ingest.volumes.volume import RadarSite

_M_PER_FOOT = 0.3048
_ALTITUDES_M = (-500.0, 9000.0)
SAME_RADAR_KM = 1.0
"""Files of one radar give its place with different precision; no two radars of one network are so near."""


def placed(site: RadarSite, given: RadarSite | None, where: Path) -> RadarSite:
    """Return a site with a place: the given one, that of the file, or that of its station in Py-ART's table of NEXRAD.

    NEXRAD files before 2008 have no place, and programs write 0° N 0° E, NaN or −9999 for an unknown one.

    Raises:
        BadInput: The place is unknown.
    """
    if given is not None:
        return replace(given, code=site.code)
    if is_place(site):
        longitude = (site.longitude + 180) % 360 - 180 if abs(site.longitude) > 180 else site.longitude
        return replace(site, longitude=longitude, altitude_m=_altitude(site.altitude_m))
    known = pyart_library().io.nexrad_common.NEXRAD_LOCATIONS.get(site.code.upper())
    if known is None:
        raise BadInput(
            f"no position of the radar ({site.latitude:g}° N, {site.longitude:g}° E)", where,
            "give it: --site LATITUDE,LONGITUDE,METRES",
        )  # fmt: skip
    return RadarSite(known["lat"], known["lon"], known["elev"] * _M_PER_FOOT, site.code)


def is_place(site: RadarSite) -> bool:
    """Whether a site is on the Earth; 0° N 0° E, in the sea, is what programs write for an unknown one."""
    is_on_earth = abs(site.latitude) <= 90 and -180 <= site.longitude <= 360
    return bool(is_on_earth and not (site.latitude == 0 and site.longitude == 0))


def _altitude(metres: float) -> float:
    """Return the altitude; 0 if it is unknown, because levels are counted from the radar."""
    least, most = _ALTITUDES_M
    return metres if least <= metres <= most else 0.0


def distance_km(first: RadarSite, second: RadarSite) -> float:
    """Return the distance of two radars on a sphere in km; exact for the short ones that are compared."""
    north = first.latitude - second.latitude
    east = (first.longitude - second.longitude + 180) % 360 - 180
    middle = np.deg2rad((first.latitude + second.latitude) / 2)
    return float(KM_PER_DEGREE * np.hypot(north, east * np.cos(middle)))


def is_same_radar(first: RadarSite, second: RadarSite) -> bool:
    """Whether two files are of one radar: of one place, or both without one, and not of two stations.

    Files of one radar may name it in different systems, such as NOD:behel and WMO:06475, or in other letters.
    """
    (kind, code), (other_kind, other_code) = (
        "".join(site.code.casefold().split()).rpartition(":")[::2] for site in (first, second)
    )
    are_two = bool(code and other_code) and kind == other_kind and code != other_code
    is_near = distance_km(first, second) <= SAME_RADAR_KM or not (is_place(first) or is_place(second))
    return is_near and not are_two

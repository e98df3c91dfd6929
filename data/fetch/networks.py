"""Open archives of radar volumes: bucket, layout of the keys, stations, and times in the names.

The layout of NEXRAD is that of the provider's page (https://registry.opendata.aws/noaa-nexrad/) and of Py-ART's and
MetPy's clients. The layout of FMI is that of FMI's notebook (fmidev/opendata-resources, `radar-rhi-from-hdf5.ipynb`,
for 2020) and of getRad (enram/getRad, `get_pvol_fi.R`, from 2021).
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath

from polarcast.data.errors import BadInput, nearest, shown


@dataclass(frozen=True)
class RadarNetwork:
    """One open archive.

    Keys are YEAR/MONTH/DAY/STATION/NAME in all of them.

    Attributes:
        name: Name on the command line.
        title: Full name.
        bucket: Name of the S3 bucket, which anybody may read.
        region: AWS region of the bucket.
        stations: Pattern of a station's code.
        is_upper: Whether codes of stations are in upper case; otherwise they are in lower case.
        example: Code of a station, for messages.
        volume: Pattern of a volume's name, in which STATION stands for the code; the groups `time` and `variant`.
        time_format: Format of the group `time`, UTC.
    """

    name: str
    title: str
    bucket: str
    region: str
    stations: str
    is_upper: bool
    example: str
    volume: str
    time_format: str

    def station(self, text: str) -> str:
        """Return a station's code in the case of the keys. Raises BadInput if it can't be one."""
        code = text.strip().upper() if self.is_upper else text.strip().lower()
        if not re.fullmatch(self.stations, code):
            fix = f"give a code such as {self.example}"
            raise BadInput(f"no station of {self.title}: {shown(text)}", "STATION", fix)
        return code

    def prefix(self, day: date, station: str = "") -> str:
        """Return the prefix of the keys of a day, or of a day and station."""
        return f"{day:%Y/%m/%d}/" + (f"{station}/" if station else "")

    def volume_of(self, name: str, station: str) -> tuple[datetime, str] | None:
        """Return the time of a volume, UTC, and its variant such as `_V06.gz`; None for names of other objects."""
        found = re.fullmatch(self.volume.replace("STATION", station), name)
        if not found:
            return None
        try:
            time = datetime.strptime(found["time"], self.time_format).replace(tzinfo=UTC)
        except ValueError:  # such as the 31st of June
            return None
        return time, found["variant"]


NEXRAD = RadarNetwork(
    name="nexrad",
    title="NEXRAD level II",
    bucket="unidata-nexrad-level2",
    region="us-east-1",
    stations="[A-Z][A-Z0-9]{3}",
    is_upper=True,
    example="KLBB",
    # Names that end in _MDM are messages about the radar's model and no volumes. Until 2016 the files are gzipped.
    volume=r"STATION(?P<time>\d{8}_\d{6})(?P<variant>(?:_V\d\d)?(?:\.gz|\.bz2)?)",
    time_format="%Y%m%d_%H%M%S",
)
FMI = RadarNetwork(
    name="fmi",
    title="FMI's open volumes",
    bucket="fmi-opendata-radar-volume-hdf5",
    region="eu-west-1",
    stations="fi[a-z]{3}",
    is_upper=False,
    example="fiuta",
    volume=r"(?P<time>\d{12})_STATION(?P<variant>_(?i:PVOL|POLARVOLUME)\.h5)",
    time_format="%Y%m%d%H%M",
)
NETWORKS = {network.name: network for network in (NEXRAD, FMI)}


@dataclass(frozen=True)
class Period:
    """Stretch of time: start ≤ time < end, UTC."""

    start: datetime
    end: datetime

    def __contains__(self, time: datetime) -> bool:
        return self.start <= time < self.end

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"

    @property
    def days(self) -> list[date]:
        """Days of which a part is in the period."""
        last = (self.end - timedelta(microseconds=1)).date()
        return [self.start.date() + timedelta(days=n) for n in range((last - self.start.date()).days + 1)]


@dataclass(frozen=True)
class RemoteFile:
    """Volume in a bucket, as listed.

    Attributes:
        key: Key in the bucket.
        size: Bytes.
        etag: Entity tag, without quotation marks.
        time: Time in the name, UTC: the start of the volume.
        variant: Part of the name that tells the kind of file; sizes are comparable within a variant.
    """

    key: str
    size: int
    etag: str
    time: datetime
    variant: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """Name of the file."""
        return PurePosixPath(self.key).name


def network_of(name: str) -> RadarNetwork:
    """Return a network by its name. Raises BadInput for others."""
    if name.lower() not in NETWORKS:
        fix = nearest(name, NETWORKS) or f"choose from: {', '.join(NETWORKS)}"
        raise BadInput(f"unknown network {shown(name)}", "NETWORK", fix)
    return NETWORKS[name.lower()]


def period_of(start: str, end: str) -> Period:
    """Return the period between two dates or times. Raises BadInput if one can't be read, or they are not in order."""
    period = Period(_time_of(start, "--from"), _time_of(end, "--to"))
    if period.start >= period.end:
        fix = "give a later end; it is not part of the period itself"
        raise BadInput(f"the period is empty: from {start} to {end}", "--to", fix)
    return period


def _time_of(text: str, option: str) -> datetime:
    """Return a time in UTC; without an offset it is UTC already."""
    try:
        time = datetime.fromisoformat(text.strip())
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        fix = "give UTC as 2016-05-31 or 2016-05-31T12:30"
        raise BadInput(f"not a date or time: {shown(text)}", option, fix) from None

"""Rain grids of radar volumes: relations between rain rate and what the radar measures, with published coefficients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.volumes.attenuation import SPECIFIC_ATTENUATION
from polarcast.data.ingest.volumes.volume import Real

NO_RAIN = "none"
PRODUCT = "a product of the radar, not a gauge"
RAIN_OF_KDP = {"S": (50.70, 0.85), "C": (29.7, 0.85), "X": (15.81, 0.7992)}
"""Coefficients of R = a KDP^b in mm/h by band, from Py-ART (retrieve/qpe.py, _coeff_rkdp_table). The C-band relation is
by Bringi and Chandrasekar; the others are fits to Beard–Chuang drop shapes."""
RAIN_OF_A = {"S": (3100.0, 1.03), "C": (250.0, 0.91), "X": (45.5, 0.83)}
"""Coefficients of R = a A^b in mm/h at 10 °C by band, from Py-ART (retrieve/qpe.py, _coeff_ra_table): S band by Ryzhkov
et al. 2014 (doi:10.1175/JTECH-D-13-00038.1), C and X band by Diederich et al. 2015 (doi:10.1175/JHM-D-14-0066.1)."""
RAIN_OF_ZH_ZDR = {"S": (0.0067, 0.927, -0.343), "C": (0.0058, 0.91, -0.209)}
"""Coefficients of R = a Z^b 10^(c ZDR) in mm/h by band (Bringi & Chandrasekar 2001, ch. 8.1); none for X band."""
MOST_DBZ, MOST_ZDR = 55.0, 4.0
"""Upper limits of ZH and ZDR in R(ZH) and R(ZH, ZDR); an operational measure against hail. ZDR is at least 0."""

Fields = Mapping[str, Real]
Rate = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Relation:
    """One way to compute rain.

    Attributes:
        rate: (fields by name, band, a and b of the Z–R relation) → mm/h; NaN where a field is missing in echo.
        law: (band, a and b of the Z–R relation) → formula with numbers and source.
        of: What it is a product of.
        needs: Variables of the archive that it uses.
        bands: Bands for which there are coefficients; empty if they do not depend on it.
        in_archive: Whether the archive's note has the formulas; it names R(KDP) only, as it always did.
    """

    rate: Callable[[Fields, str, tuple[float, float]], Any]
    law: Callable[[str, tuple[float, float]], str]
    of: str
    needs: tuple[str, ...]
    bands: tuple[str, ...] = ("S", "C", "X")
    in_archive: bool = True


def check_relation(name: str) -> None:
    """Check that a relation exists. Raises BadInput if it doesn't."""
    known = (*RELATIONS, NO_RAIN)
    if name not in known:
        raise BadInput(f"unknown rain grid {name!r}", "--rain", f"choose from: {', '.join(known)}")


def check_band(relation: str, band: str | None) -> None:
    """Check that a relation has coefficients for a band. Raises BadInput if it has none."""
    bands = RELATIONS[relation].bands if relation in RELATIONS else ()
    if bands and band is not None and band not in bands:
        raise BadInput(f"{relation} has no coefficients for {band} band", "--rain", f"only for {' and '.join(bands)}")


def check_zr(zr: tuple[float, float]) -> None:
    """Check a and b of Z = a R^b. Raises BadInput if they describe no rain."""
    a, b = zr
    if not (1 <= a <= 5000 and 0.5 <= b <= 4):
        raise BadInput(f"no Z–R relation: Z = {a:g} R^{b:g}", "--z-r", "give a and b of Z = a R^b, such as 200,1.6")


def rain_rate(relation: str, fields: Fields, band: str | None, zr: tuple[float, float]) -> Rate:
    """Return the rain rate in mm/h, in the shape of the fields.

    Args:
        relation: Name in `RELATIONS`.
        fields: Fields at one level by name; NaN where there is no echo, or a field is missing.
        band: S, C or X; None only for relations of all bands.
        zr: a and b of Z = a R^b.

    Returns:
        Zero where there is no echo; NaN where zh has echo and another field is missing. R(KDP) is zero there too.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(RELATIONS[relation].rate(fields, band or "", zr), dtype=np.float32)


def rain_description(relation: str, band: str | None, zr: tuple[float, float]) -> str:
    """Describe the rain grid for the event's note."""
    return NO_RAIN if relation == NO_RAIN else f"{RELATIONS[relation].law(band or '', zr)}; {PRODUCT}"


def archive_description(relation: str, zr: tuple[float, float]) -> str:
    """Describe the rain grid for the archive's note, for all bands: what it is a product of, and the relation."""
    if relation == NO_RAIN:
        return NO_RAIN
    chosen = RELATIONS[relation]
    laws = [chosen.law(band, zr) for band in chosen.bands or ("",)]
    return f"product of {chosen.of}" + (f": {'; '.join(laws)}" if chosen.in_archive else "")


def _of_kdp(fields: Fields, band: str, zr: tuple[float, float]) -> Any:
    a, b = RAIN_OF_KDP[band]
    return a * np.maximum(np.nan_to_num(fields["kdp"]), 0) ** b


def _of_a(fields: Fields, band: str, zr: tuple[float, float]) -> Any:
    a, b = RAIN_OF_A[band]
    return _in_echo(fields, a * np.maximum(fields[SPECIFIC_ATTENUATION], 0) ** b)


def _of_zh_zdr(fields: Fields, band: str, zr: tuple[float, float]) -> Any:
    a, b, c = RAIN_OF_ZH_ZDR[band]
    return _in_echo(fields, a * 10 ** (b * _limited(fields) / 10 + c * np.clip(fields["zdr"], 0, MOST_ZDR)))


def _of_zh(fields: Fields, band: str, zr: tuple[float, float]) -> Any:
    a, b = zr
    return _in_echo(fields, (10 ** (_limited(fields) / 10) / a) ** (1 / b))


def _limited(fields: Fields) -> Real:
    return np.minimum(fields["zh"], np.float32(MOST_DBZ))


def _in_echo(fields: Fields, rate: Any) -> Any:
    return np.where(np.isfinite(fields["zh"]), rate, 0)


def _law_of_kdp(band: str, zr: tuple[float, float]) -> str:
    a, b = RAIN_OF_KDP[band]
    return f"R = {a} KDP^{b} of KDP at the lowest level (arm_pyart, {band} band)"


def _law_of_a(band: str, zr: tuple[float, float]) -> str:
    a, b = RAIN_OF_A[band]
    source = "Ryzhkov et al. 2014" if band == "S" else "Diederich et al. 2015"
    return f"R = {a:g} A^{b:g} of the specific attenuation by ZPHI at the lowest level ({source}, {band} band)"


def _law_of_zh_zdr(band: str, zr: tuple[float, float]) -> str:
    a, b, c = RAIN_OF_ZH_ZDR[band]
    return (
        f"R = {a:g} Z^{b:g} 10^({c:g} ZDR) at the lowest level, of ZH up to {MOST_DBZ:g} dBZ and ZDR of 0 to "
        f"{MOST_ZDR:g} dB (Bringi & Chandrasekar 2001, {band} band)"
    )


def _law_of_zh(band: str, zr: tuple[float, float]) -> str:
    a, b = zr
    return f"Z = {a:g} R^{b:g} of ZH up to {MOST_DBZ:g} dBZ at the lowest level"


RELATIONS = {
    "kdp": Relation(_of_kdp, _law_of_kdp, "KDP", ("kdp",), in_archive=False),
    "a": Relation(_of_a, _law_of_a, "the specific attenuation", ()),
    "zh_zdr": Relation(_of_zh_zdr, _law_of_zh_zdr, "ZH and ZDR", ("zdr",), bands=("S", "C")),
    "zh": Relation(_of_zh, _law_of_zh, "ZH", (), bands=()),
}
"""Relations by the name in `--rain`."""

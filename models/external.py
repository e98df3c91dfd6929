"""Models of other software: polarcast has their forecasts, and can neither train nor run them."""

from dataclasses import dataclass

from polarcast.models.common.settings import setting


@dataclass
class ExternalConfig:
    """Configuration of a run whose forecasts were made by other software."""

    label: str | None = setting(None)
    """What the model is called, such as `pysteps 1.14, STEPS`; shown by leaderboards."""
    forecasts_sha256: str | None = setting(None)
    """SHA-256 of the windows and values of the scored forecasts."""

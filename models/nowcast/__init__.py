"""Models that forecast the reflectivity of the next hour from the radar fields of the last."""

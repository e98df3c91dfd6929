"""Forecasts of trained runs: fields, CF netCDF, pictures."""

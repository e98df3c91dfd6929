"""Perturbations of radar input: calibration, noise, attenuation, blockage, resolution, lost fields."""

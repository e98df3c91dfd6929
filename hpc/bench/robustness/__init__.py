"""Robustness of a suite: its scores, and the gain from dual polarization, under perturbed input."""

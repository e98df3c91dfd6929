"""Synthetic storms with known truth: rain, drops and ice on a grid, and simulated C-band observations of them."""

"""Synthetic storms with known truth: rain, drops and ice on a grid, and what a C-band radar measures of them."""

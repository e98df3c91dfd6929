"""A storm world with known truth: rain, drops and ice on a grid, and what a C-band radar would see of
them.
"""

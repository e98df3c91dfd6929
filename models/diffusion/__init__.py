"""Diffusion of rain fields: the process, the network that undoes it, and the models built on both."""

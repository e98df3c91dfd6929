"""Diffusion of rain fields: process, network, samplers, models."""

"""Diffusion models of rain fields: process, network, samplers and models."""

"""Searches over architecture and hyperparameters."""

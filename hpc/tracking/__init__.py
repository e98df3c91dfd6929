"""Mirrors of run logs in W&B and TensorBoard."""

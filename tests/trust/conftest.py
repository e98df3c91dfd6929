"""Fixtures of other folders."""

from tests.hpc.conftest import polarcast_here

__all__ = ["polarcast_here"]

"""Nowcasting models."""

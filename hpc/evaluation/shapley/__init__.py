"""Exact Shapley values of forecasts and scores."""

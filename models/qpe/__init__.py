"""Models of rain rate."""

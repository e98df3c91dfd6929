"""Events and seeds that a gain would need."""

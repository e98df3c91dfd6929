"""Read, censor and grid radar volumes, and group them into events."""

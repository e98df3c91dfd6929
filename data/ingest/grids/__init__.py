"""Read gridded sequences, convert units, and cut them into tiles and events."""

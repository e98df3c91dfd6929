"""Configuration of a run: schema, presets, loading, validation, digest."""

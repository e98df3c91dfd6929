"""Rain gauges: read, check, and locate them; virtual gauges in a known field."""

"""Pictures of a suite, drawn from its score records and a few kept cases."""

"""Configuration, training, evaluation, benchmark and the command line."""

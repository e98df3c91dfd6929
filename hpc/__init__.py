"""Training, evaluation and benchmarking on one machine or many; the rooms are listed in docs and tests."""

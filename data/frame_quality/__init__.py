"""Quality of single frames: a rule, a classifier trained on it, and the training windows that it drops."""

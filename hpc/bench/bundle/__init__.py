"""A finished suite in one file that others can verify: written, read without trust, recomputed, and trained anew."""

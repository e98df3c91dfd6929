"""QPE models, which estimate rain rate."""

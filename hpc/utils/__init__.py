"""The terminal: messages, progress, exit codes, plot style."""

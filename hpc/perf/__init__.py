"""How fast is it, and how fast could it be? Everything is measured side by side in one run."""

"""Networks and physical baselines: tensors in, tensors out; nothing of files, ranks or schedulers."""

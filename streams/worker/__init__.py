"""The loop of a worker: poll, process, punctuate, commit."""

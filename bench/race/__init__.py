"""The race: stream-processing runtimes one after another on one real broker."""

"""Who decides which tasks a worker runs: the application alone, or a broker."""

"""What the clients alone can do: the ceiling of every Python contender."""

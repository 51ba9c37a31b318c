"""Transports: one port for reading and writing records, and its implementations."""

"""Supervised worker processes: starting, watching, replacing."""

"""Reads of the stores of a running application."""

"""Rows that wait for the commit, and rows in segments of time."""

"""The kinds of stores as they are asked: one file for each, with all that queries know of it."""

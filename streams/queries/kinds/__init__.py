"""The kinds of stores for queries: one file per kind, with all that queries know of it."""

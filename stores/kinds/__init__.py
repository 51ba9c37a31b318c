"""The kinds of stores: what their rows look like and what users call."""

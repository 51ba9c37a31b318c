"""The kinds of stores: the layout of their rows and their public methods."""

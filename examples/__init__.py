"""Small complete applications; each runs on the embedded log without changes."""

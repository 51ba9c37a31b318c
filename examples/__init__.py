"""Small complete applications; each runs on the embedded log as it stands."""

"""`python -m streams.cli`: the command line where the `thalweg` command is not installed."""

from thalweg.streams.cli import main

main()

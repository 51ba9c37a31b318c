"""Questions to the stores of a running application."""

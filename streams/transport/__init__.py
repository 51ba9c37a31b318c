"""Where records come from and go to: one port, and what stands behind it."""

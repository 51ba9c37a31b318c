"""Tasks: one subtopology times one partition, and what brings records through it."""

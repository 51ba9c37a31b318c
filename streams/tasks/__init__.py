"""Tasks: a task runs one subtopology on one partition."""

"""Speed: the runtime against hand-written loops, and the race on a real broker."""

"""From the DSL to a graph of processors: no input or output, no clock, no threads.

Sees of `stores` only its nouns and faces. What users need is re-exported by `streams`.
"""

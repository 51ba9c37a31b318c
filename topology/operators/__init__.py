"""The processor nodes of the DSL and of the Processor API, one file per mechanism.

Each node is a description made while a topology is built; `compile` turns it into one plain
function per task. Nodes know the stores' faces and nothing of tasks, transports or clocks.
"""

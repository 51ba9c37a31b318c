"""Operators: what the processor nodes of the DSL and of the Processor API do, one file per family.

An operator is made when a topology is built and never changed; `compile` turns it into one plain
function per task. Operators know the stores' faces and nothing of tasks, transports or clocks.
"""

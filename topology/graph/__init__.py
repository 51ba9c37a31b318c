"""The logical graph: the result of the DSL's calls before the topology is built.

Steps (`steps`) say what is added; a graph of them (`logical`) grows call by call; rewrites
(`rewrites`) take a graph and give a graph; one writer (`writer`) turns it into a topology.

Source: JVM `InternalStreamsBuilder`, `kstream.internals.graph`.
"""

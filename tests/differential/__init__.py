"""Random topologies on random input, run by the JVM and by us, and compared record for record."""

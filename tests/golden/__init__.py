"""Golden tests: topologies run against what the JVM's Kafka Streams did with them."""

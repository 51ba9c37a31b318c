"""Scenarios of Kafka's own test classes as data; see README.md."""

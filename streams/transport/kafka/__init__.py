"""Kafka as a transport, by its client library."""

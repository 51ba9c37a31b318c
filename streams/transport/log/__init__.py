"""The embedded log: topics, records and committed offsets on one byte store."""

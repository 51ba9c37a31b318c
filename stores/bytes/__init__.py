"""Byte stores behind one contract: in memory, and RocksDB."""

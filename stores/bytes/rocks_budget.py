"""The memory that RocksDB stores of a process share, and the options that bound it.

Owns the block cache, the write buffers and each store's share of them. It must not know what a
store keeps.

A trap of rocksdict 0.3 that this module works around; it was observed: index and filter blocks in
the block cache. A filter that is larger than a shard of the cache (a 64th) is read again for every
`get`: 85 µs instead of 4 µs with 1.5 million rows. So filters are kept outside of the cache; they
take about 1.5 bytes per row.

Source: storage-tiers D2; JVM `RocksDBStore` for what the options are set to.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBufferManager,
)

BLOCK_CACHE_BYTES: Final = 50 * 1024 * 1024
WRITE_BUFFER_BYTES: Final = 64 * 1024 * 1024

WRITE_BUFFER_MIN_BYTES: Final = 64 * 1024
"""The smallest write buffer RocksDB takes."""

_LOG_BYTES_MAX: Final = 64 * 1024 * 1024
"""Length of RocksDB's log from which on what holds it back is flushed: notes, which are few."""


class RocksBudget:
    """The memory that all RocksDB stores it is given to share.

    RocksDB's own bound of write buffers makes whoever writes flush, although it may be the
    idle stores that fill it: a busy one then flushes with every write. So every open store
    also gets an equal share, told anew whenever their number doubles or halves.

    Args:
        block_cache_bytes: bound of the cache of blocks read from disk, 0 for none.
        write_buffer_bytes: bound of the rows not written to table files yet, at least 64 KiB.
    """

    def __init__(
        self,
        block_cache_bytes: int = BLOCK_CACHE_BYTES,
        write_buffer_bytes: int = WRITE_BUFFER_BYTES,
    ) -> None:
        self._lock = threading.Lock()
        self._databases: list[Rdict] = []
        self._write_buffer_bytes = write_buffer_bytes
        self._cache = Cache(block_cache_bytes)
        self._write_buffers = WriteBufferManager(write_buffer_bytes, allow_stall=False)
        self._share_bytes = self._share()

    @property
    def block_cache_used_bytes(self) -> int:
        """What the cache holds now."""
        return self._cache.get_usage()

    @property
    def write_buffer_used_bytes(self) -> int:
        """What the write buffers of all stores hold now."""
        return self._write_buffers.get_usage()

    @property
    def share_bytes(self) -> int:
        """The write buffer of each store."""
        return self._share_bytes

    def resize(self, block_cache_bytes: int, write_buffer_bytes: int) -> None:
        """Sets both bounds, also of stores that are open."""
        with self._lock:
            self._write_buffer_bytes = write_buffer_bytes
            self._cache.set_capacity(block_cache_bytes)
            self._write_buffers.set_buffer_size(write_buffer_bytes)
            self._tell_share()

    def options(self) -> Options:
        """Makes the options of a store that shares this budget."""
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(10, block_based=False)
        options = Options(raw_mode=True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self._write_buffers)
        options.set_write_buffer_size(self._share_bytes)
        options.set_max_write_buffer_number(3)
        # Rows that are new are looked for first, among all that are in memory.
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.02)
        options.set_compaction_style(DBCompactionStyle.universal())
        options.set_compression_type(DBCompressionType.none())
        # The log is the only place of rows that a checkpoint file speaks of: a hole in it must
        # not pass for its end.
        options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
        options.set_max_total_wal_size(_LOG_BYTES_MAX)
        options.set_keep_log_file_num(2)
        options.set_stats_dump_period_sec(0)
        return options

    def join(self, database: Rdict) -> None:
        """Counts a store that was opened."""
        with self._lock:
            self._databases.append(database)
            self._tell_share()

    def leave(self, database: Rdict) -> None:
        """Forgets a store that is about to be closed."""
        with self._lock:
            self._databases.remove(database)
            self._tell_share()

    def _share(self) -> int:
        # Powers of two: to be told costs a store a millisecond. Half, because while a full
        # buffer is written to a file the next one fills.
        sharers = 1 << (len(self._databases) - 1).bit_length() if self._databases else 1
        return max(WRITE_BUFFER_MIN_BYTES, self._write_buffer_bytes // (2 * sharers))

    def _tell_share(self) -> None:
        share_bytes = self._share()
        if share_bytes != self._share_bytes:
            self._share_bytes = share_bytes
            for database in self._databases:
                # A store that fails at this, on a full disk, tells its own owner in time;
                # the common bound holds without its consent.
                with suppress(Exception):
                    database.set_options({"write_buffer_size": str(share_bytes)})


_process_budget: Final = RocksBudget()


def process_budget() -> RocksBudget:
    """Returns the budget of stores that were given none; `resize` it to the settings."""
    return _process_budget

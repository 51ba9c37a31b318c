"""How far a store is that is filled from a source topic, noted beside its rows.

Owns the note's bytes. It must not know when a note is written: that is with the rows, in one
step, so that it is right after a crash too.

    position int64 | partition time int64 | topic, UTF-8
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

_numbers: Final = Struct(">qq")


class RefillNote(NamedTuple):
    """How far a store is; a checkpoint file cannot say it.

    That is behind the rows after a crash. It does no harm where a record says what a row is;
    a processor that makes a row from the one before would do so twice.

    Attributes:
        topic: the source topic.
        position: the next record to come.
        partition_time_ms: the highest timestamp before it, -1 if there is none.
    """

    topic: str
    position: int
    partition_time_ms: int

    def packed(self) -> bytes:
        """Returns the note as a store keeps it."""
        return _numbers.pack(self.position, self.partition_time_ms) + self.topic.encode()

    @classmethod
    def unpacked(cls, note: bytes | None) -> RefillNote | None:
        """Reads a note, None if there is none to be read."""
        if note is None or len(note) < _numbers.size:
            return None
        return cls(note[_numbers.size :].decode(errors="replace"), *_numbers.unpack_from(note))

"""A number of bytes that many share."""

from __future__ import annotations


class ByteBudget:
    """Counts the bytes that are in use, of bodies or of answers.

    Threads  Event loop only.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_in_use = 0
        #: How often there was no room.
        self.refused = 0

    def try_take(self, size: int) -> bool:
        """Take so many bytes if they are free; who did gives them back."""
        if self.bytes_in_use + size > self.bytes_max:
            self.refused += 1
            return False
        self.bytes_in_use += size
        return True

    def take(self, size: int) -> None:
        """Take so many bytes, free or not."""
        self.bytes_in_use += size

    def give_back(self, size: int) -> None:
        self.bytes_in_use -= size

"""Which datagrams of a sender never came, told by the gaps in their sequence."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_WINDOW: Final = 64
_WINDOW_MASK: Final = (1 << _WINDOW) - 1
_SENDERS_MAX: Final = 4096
# A jump farther than this is a sender that began anew.
_JUMP_MAX: Final = 1 << 20


@dataclass(slots=True)
class _Sender:
    highest: int
    # Bit n says that ``highest - n`` came, or was before the first that did.
    came: int = _WINDOW_MASK


class Sequences:
    """A datagram counts as lost once 64 later ones of its sender were meant to come.

    Of more senders than are remembered the longest silent are forgotten.
    """

    def __init__(self) -> None:
        self._senders: OrderedDict[int, _Sender] = OrderedDict()

    def lost_at(self, sender: int, sequence: int) -> int:
        """Note that this one came; how many are lost for sure that were not so before."""
        state = self._senders.get(sender)
        if state is None:
            self._senders[sender] = _Sender(sequence)
            if len(self._senders) > _SENDERS_MAX:
                self._senders.popitem(last=False)
            return 0
        self._senders.move_to_end(sender)
        step = sequence - state.highest
        if abs(step) > _JUMP_MAX:
            self._senders[sender] = _Sender(sequence)
            return 0
        if step <= 0:
            if -step < _WINDOW:
                state.came |= 1 << -step
            return 0
        # Those that leave the window without having come; a step beyond it passes over some as well.
        leaving = state.came >> max(0, _WINDOW - step)
        lost = min(step, _WINDOW) - leaving.bit_count() + max(0, step - _WINDOW)
        state.came = ((state.came << step) | 1) & _WINDOW_MASK
        state.highest = sequence
        return lost

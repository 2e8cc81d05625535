"""The largest number that leaves room, found in few guesses."""

from collections.abc import Callable
from itertools import cycle


def most_with_room(room: Callable[[int], int], limit: int) -> int:
    """The largest n up to `limit` that leaves room, which it does if not negative; 0 if none does.

    Larger ones leave less. Room is nearly a line, so each other guess is where that would cross 0.
    """
    low, high, left, lacks = 1, limit, room(1), room(limit)
    if left < 0 or lacks >= 0:
        return 0 if left < 0 else limit
    for straight in cycle((True, False)):
        if high - low == 1:
            break
        guess = low + (high - low) * left // (left - lacks) if straight else (low + high) // 2
        guess = min(max(guess, low + 1), high - 1)
        found = room(guess)
        if found < 0:
            high, lacks = guess, found
        else:
            low, left = guess, found
    return low

"""Sets of specialists as bits of words: what is asked of everybody in a set costs one instruction.

A set for each of many queries is an array of the narrowest unsigned words that hold all specialists, of several
words of 64 beyond that: shape (word, query), where bit j of word w is specialist 64 w + j. Arrays over words and
neighbours are looped over and never reduced along an axis: NumPy adds up a short axis ten times as slowly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Sets = NDArray[np.unsignedinteger[Any]]


def padded_width(n_specialists: int) -> int:
    """Give the number of bits that hold so many specialists: 8, 16, 32, or a multiple of 64."""
    for width in (8, 16, 32):
        if n_specialists <= width:
            return width
    return -(-n_specialists // 64) * 64


def pack(members: NDArray[Any]) -> Sets:
    """Make sets of a table.

    Parameters
    ----------
    members : ndarray, shape (query, specialist)
        Not 0 for who is in. It need not be copied if padded to :func:`padded_width` columns.

    Returns
    -------
    ndarray of uint8, uint16, uint32 or uint64, shape (word, query)
    """
    width = padded_width(members.shape[1])
    if members.shape[1] < width:
        table = np.zeros((len(members), width), dtype=members.dtype)
        table[:, : members.shape[1]] = members
        members = table
    octets = np.packbits(members.reshape(-1), bitorder="little")
    words = octets.view(np.dtype(f"<u{min(width // 8, 8)}"))
    return np.ascontiguousarray(words.reshape(len(members), max(width // 64, 1)).T)


def some(sets: Sets) -> NDArray[np.bool_]:
    """Tell which sets have members; shape (word, ...) to (...)."""
    found = sets[0] != 0
    for word in sets[1:]:
        found |= word != 0
    return np.asarray(found)


def sizes(sets: Sets) -> NDArray[np.int64]:
    """Count the members of each set; shape (word, ...) to (...)."""
    count = np.bitwise_count(sets[0]).astype(np.int64)
    for word in sets[1:]:
        count += np.bitwise_count(word)
    return count


def first_members(sets: Sets) -> NDArray[np.int64]:
    """Find the member listed first; at least the number of specialists where there is none."""
    one, width = sets.dtype.type(1), 8 * sets.dtype.itemsize
    # s and not s plus 1 is the lowest bit alone; less 1, all bits below it
    below = np.bitwise_count((sets & (~sets + one)) - one).astype(np.int64)
    first = below[-1] + width * (len(sets) - 1)
    for w in range(len(sets) - 2, -1, -1):
        first = np.where(sets[w] != 0, below[w] + width * w, first)
    return np.asarray(first)


def longest_right(hits: Sets, here: Sets) -> Sets:
    """Find who was right on the most nearest neighbours before the first error.

    Parameters
    ----------
    hits : ndarray of unsigned words, shape (word, neighbour, query)
        Who was right on each neighbour, nearest first.
    here : ndarray of unsigned words, shape (word, query)
        Who may be found.

    Returns
    -------
    ndarray of unsigned words, shape (word, query)
        Everybody of ``here`` where nobody was right on the nearest.
    """
    left = here
    unbroken = np.ones(here.shape[1], dtype=bool)
    for t in range(hits.shape[1]):
        still = left & hits[:, t]
        unbroken &= some(still)
        left = np.where(unbroken, still, left)
    return left


def most_often_right(hits: Sets, here: Sets) -> Sets:
    """Find who was right on the most neighbours.

    Parameters
    ----------
    hits : ndarray of unsigned words, shape (word, neighbour, query)
        Who was right on each neighbour.
    here : ndarray of unsigned words, shape (word, query)
        Who may be found.

    Returns
    -------
    ndarray of unsigned words, shape (word, query)

    Notes
    -----
    Counts are kept as binary digits, one set each, for all specialists of a word at a time (a ripple-carry
    counter); the largest is then found from the highest digit down.
    """
    digits: list[Sets] = []
    for t in range(hits.shape[1]):
        carry = hits[:, t]
        for place, digit in enumerate(digits):
            digits[place], carry = digit ^ carry, digit & carry
        if (t + 1) & t == 0:  # counts up to t + 1 have one digit more than those up to t
            digits.append(carry)
    left = here
    for digit in reversed(digits):
        still = left & digit
        left = np.where(some(still), still, left)
    return left


def times_right(hits: Sets, voters: Sets) -> NDArray[np.unsignedinteger[Any]]:
    """Count for each label how often those who say it now were right on the neighbours.

    Parameters
    ----------
    hits : ndarray of unsigned words, shape (word, neighbour, query)
        Who was right on each neighbour.
    voters : ndarray of unsigned words, shape (label, word, query)
        Who says each label now.

    Returns
    -------
    ndarray of the narrowest unsigned integer that holds the counts, shape (label, query)
    """
    most = hits.shape[1] * len(hits) * 8 * hits.dtype.itemsize
    counts = np.zeros((len(voters), hits.shape[2]), dtype=np.min_scalar_type(most))
    for right, voter in zip(hits, voters.transpose(1, 0, 2), strict=True):
        for near in right:
            for count, own in zip(counts, voter, strict=True):
                count += np.bitwise_count(near & own)
    return counts


def label_digits(labels: NDArray[np.integer[Any]], n_classes: int) -> Sets:
    """Write labels as binary digits, one set each.

    Parameters
    ----------
    labels : ndarray of int, shape (query, specialist)
        Codes; -1 where a specialist is absent.
    n_classes : int
        Number of codes.

    Returns
    -------
    ndarray of unsigned words, shape (digit, word, query)
    """
    return np.stack([pack((labels + 1) >> place & 1) for place in range(int(n_classes).bit_length())])


def same_labels(then: Sets, now: Sets, here: Sets) -> Sets:
    """Find who of ``here`` says what it said then: equal in every digit; shape (word, query)."""
    differ = then[0] ^ now[0]
    for one, other in zip(then[1:], now[1:], strict=True):
        differ |= one ^ other
    return here & ~differ

"""Sets of partitions written as text, such as `0-5,7`."""

import re
from itertools import count, groupby

_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


def parse_partitions(text: str) -> frozenset[int]:
    """Parse a set of partitions.

    Raises:
        ValueError: `text` is not a list of numbers and ranges.

    >>> sorted(parse_partitions("0-2,7"))
    [0, 1, 2, 7]
    """
    partitions: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = map(int, (match[1], match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f"{part.strip()!r} is not a number or range; write 0-5 or 0-3,8")
        partitions.update(range(first, last + 1))
    return frozenset(partitions)


def partitions_text(partitions: frozenset[int]) -> str:
    """Format a set of partitions as the shortest text.

    >>> partitions_text(frozenset({7, 0, 1, 2}))
    '0-2,7'
    """
    places = count()
    runs = groupby(sorted(partitions), key=lambda number: number - next(places))
    ranges = [list(run) for _, run in runs]
    ends = [(run[0], run[-1]) for run in ranges]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)

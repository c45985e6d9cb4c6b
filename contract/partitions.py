"""A set of a topic's partitions, as people write it: `0-5,7`."""

import re
from itertools import count, groupby

_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


def parse_partitions(text: str) -> frozenset[int]:
    """The partitions that a text names.

    Raises:
        ValueError: it is no list of numbers and ranges.

    >>> sorted(parse_partitions("0-2,7"))
    [0, 1, 2, 7]
    """
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = map(int, (match[1], match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f"give numbers and ranges, as 0-5 or 0-3,8 ({part.strip()!r} is none)")
        found.update(range(first, last + 1))
    return frozenset(found)


def partitions_text(partitions: frozenset[int]) -> str:
    """The shortest text that names them.

    >>> partitions_text(frozenset({7, 0, 1, 2}))
    '0-2,7'
    """
    places = count()
    runs = groupby(sorted(partitions), key=lambda number: number - next(places))
    ranges = [list(run) for _, run in runs]
    ends = [(run[0], run[-1]) for run in ranges]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)

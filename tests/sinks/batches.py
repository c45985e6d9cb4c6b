"""Batches in the format of the sinks' statements."""

import msgspec

from sinks.times import text_of


def json(*rows):
    return msgspec.json.encode(rows).decode()


def readings(*rows):
    """A batch for `write_readings`: (sensor, value, received_at, device_ts, ts, seq), times in
    epoch milliseconds.
    """
    in_order = sorted(rows, key=lambda row: (row[0], row[4], row[5]))
    return json(
        *(
            (sensor, value, *(None if ms is None else text_of(ms) for ms in times), seq)
            for sensor, value, *times, seq in in_order
        )
    )

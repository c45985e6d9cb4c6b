"""The pane rules of the contract, one reading at a time, in plain Python: slow and obvious."""

from collections import defaultdict


class Sensor:
    def __init__(self):
        self.watermark = self.closed_until = self.last_arrival = float("-inf")
        self.open = defaultdict(list)


class Oracle:
    """Takes records (arrival, device, packet_id, [(sensor, ts, value)]); a heartbeat's device is
    None."""

    def __init__(self, grace, idle):
        self.grace, self.idle = grace, idle
        self.arrival = float("-inf")
        self.sensors = defaultdict(Sensor)
        self.recent = defaultdict(list)
        self.panes = []
        self.late = self.future = self.duplicates = 0

    def record(self, arrival, device, packet_id, readings):
        self.arrival = max(self.arrival, arrival)
        for name, sensor in self.sensors.items():
            if sensor.last_arrival + self.idle <= self.arrival:
                self.close(name, list(sensor.open))
        if device is None:
            return
        if packet_id in self.recent[device][-64:]:
            self.duplicates += 1
            return
        self.recent[device].append(packet_id)
        for name, ts, value in readings:
            sensor = self.sensors[name]
            sensor.last_arrival = self.arrival
            end = ts - ts % 1000 + 1000
            if ts > arrival + 300_000:
                self.future += 1
            elif end <= sensor.closed_until:
                self.late += 1
            else:
                sensor.open[end].append((ts, value))
                sensor.watermark = max(sensor.watermark, ts)
                limit = sensor.watermark - self.grace
                self.close(name, [e for e in sensor.open if e <= limit])
                sensor.closed_until = max(sensor.closed_until, limit - limit % 1000)

    def close(self, name, ends):
        sensor = self.sensors[name]
        for end in sorted(ends):
            readings = sorted(sensor.open.pop(end), key=lambda reading: reading[0])
            values = [value for _, value in readings]
            self.panes.append((name, end, len(values), values, values[-1]))
            sensor.closed_until = max(sensor.closed_until, end)

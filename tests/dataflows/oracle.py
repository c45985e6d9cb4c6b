"""The engine of one partition, one reading at a time: slow and simple, in under 150 lines.

Bounds of rules that are not set are infinite.
"""

from collections import defaultdict, namedtuple
from statistics import correlation, fmean, linear_regression, pstdev

NEVER, HORIZON = -(10**15), 600_000
ROLLUPS = ("rollup", 60_000), ("rollup", 300_000), ("rollup", 3_600_000)
Stats = namedtuple("Stats", "count mean min max std first last trend fit")


def stats(panes, start, end):
    """Stats of the readings in the panes {end: [(ts, value)]} that end in (start, end]."""
    # the sort is stable: readings of the same ts keep their order of arrival
    inside = sorted((r for at in panes if start < at <= end for r in panes[at]), key=lambda r: r[0])
    xs, ys = [(ts - end) / 1000 for ts, _ in inside], [value for _, value in inside]
    mean = min(max(fmean(ys), min(ys)), max(ys))
    trend = linear_regression(xs, ys).slope if xs[0] < xs[-1] else 0.0
    fit = correlation(xs, ys) ** 2 if trend and min(ys) < max(ys) else 0.0
    return Stats(len(ys), mean, min(ys), max(ys), pstdev(ys), ys[0], ys[-1], trend, fit)


def in_order(rules):
    """Thresholds sorted by id, the delta, then forecasts sorted by threshold id."""
    thresholds = sorted((r for r in rules if r["kind"] == "threshold"), key=lambda r: r["id"])
    critical = [r for r in thresholds if r["level"] == 2 and not r["equal"] and r["forecast_after"]]
    soon = [dict(r, kind="forecast", level=1, raise_after=r["forecast_after"]) for r in critical]
    return thresholds + [r for r in rules if r["kind"] == "delta"] + soon


def judged(rule, panes, mean, trend):
    """(condition, holds) of the rule at the last of the closed panes."""
    if rule["kind"] == "delta":
        return (delta_reached(rule, panes, mean),) * 2
    low, high = rule["low"], rule["high"]
    if rule["kind"] == "forecast":
        bound = high if trend > 0 else low
        return (low <= mean <= high and trend != 0 and (bound - mean) / trend <= 60,) * 2
    met = mean == low if rule["equal"] else not low <= mean <= high
    return met, met if rule["equal"] else not rule["reset_low"] <= mean <= rule["reset_high"]


def ahead(w5, w10):
    """The trend that a forecast extrapolates."""
    clear = w10.count >= 5 and w10.fit >= 0.9 and w5.trend * w10.trend > 0
    return min(w5.trend, w10.trend, key=abs) if clear else 0


def delta_reached(rule, panes, mean):
    *before, end = panes
    if not before or sum(len(panes[at]) for at in before) < rule["min_readings"]:
        return False
    m0, dt = stats(panes, before[-1] - 1000, before[-1]).mean, (end - before[-1]) / 1000
    d, r = abs(mean - m0), abs(mean - m0) / abs(m0) if abs(m0) > 1e-6 else 0
    changes = {"abs_delta": d, "rel_delta": r, "abs_slope": d / dt, "rel_slope": r / dt}
    return any(value >= rule[bound] for bound, value in changes.items())


class Heard:
    """A device or a sensor; `who` is (sensor, device) as events name it."""

    last_arrival = returned = watermark = closed_until = NEVER
    silent = flapping = deviating = False
    level = quiet = need = k = 0

    def __init__(self, who, rules=()):
        self.who, self.device, self.gaps, self.packets = who, None, [], []
        self.rules, self.streaks, self.changes = rules, [0] * len(rules), [False] * 20
        self.open, self.panes, self.dirty = defaultdict(list), {}, set()


class Oracle:
    """The engine: `record` takes the input; the lists and counters have the results."""

    def __init__(self, grace, idle, rules=(), predict_ms=60_000):
        self.grace, self.idle, self.rules, self.predict_ms = grace, idle, rules, predict_ms
        self.now, self.devices, self.sensors = NEVER, {}, {}
        self.windows, self.rollups, self.predictions, self.events = [], [], [], []
        self.forecasts = []  # the predictions that were made before their target
        self.future, self.duplicates, self.repeated, self.late = 0, 0, 0, []

    def record(self, arrival, device=None, packet_id="", readings=()):
        self.now = max(self.now, arrival)
        self.pass_time()
        if device is None:
            return
        d = self.devices.setdefault(device, Heard((None, device)))
        if packet_id in d.packets[-64:]:
            self.duplicates += 1
            return
        d.packets.append(packet_id)
        self.watch(d, device, {name for name, _, _ in readings})
        for name, ts, value in readings:
            s, end = self.sensors[name], ts // 1000 * 1000 + 1000
            if ts > arrival + 300_000:
                self.future += 1
            elif end <= s.closed_until:
                self.late.append((name, ts, value))
            else:
                s.open[end].append((ts, value))
                s.watermark = max(s.watermark, ts)
                closing = [end for end in s.open if end + self.grace <= s.watermark]
                self.close(s, closing, self.now)
                s.closed_until = max(s.closed_until, (s.watermark - self.grace) // 1000 * 1000)

    def pass_time(self):
        for s in self.sensors.values():
            if s.last_arrival + self.idle <= self.now:
                self.close(s, s.open, s.last_arrival + self.idle)
                s.closed_until = max(s.closed_until, s.watermark // 1000 * 1000 + 1000)
                self.emit(s, self.now - 10_000, ["rollup"])
        for d in self.devices.values():
            self.fall_silent(d, d.last_arrival)

    def watch(self, d, device, named):
        self.hear(d)
        for name, s in self.sensors.items():
            if s.device == device and name not in named:
                self.fall_silent(s, max(s.last_arrival, d.returned))
        for name in named:
            rules = in_order([rule for rule in self.rules if rule["sensor"] == name])
            s = self.sensors.setdefault(name, Heard((name, None), rules))
            s.device = device
            self.hear(s, d.returned)

    def fall_silent(self, source, since):
        at = since + max(30_000, 5000 * max(source.gaps[-4:], default=0))
        if len(source.gaps) >= 4 and not source.silent and at <= self.now:
            source.silent = True
            self.events.append((*source.who, at, "NO_DATA", None, "begin", False))

    def hear(self, source, device_returned=NEVER):
        gap = self.now // 1000 - source.last_arrival // 1000  # 0 if it returns now
        if source.silent:
            source.silent, source.returned = False, self.now
            self.events.append((*source.who, self.now, "DATA_RESUMED", None, "end", False))
        elif gap > 0 and NEVER < source.last_arrival >= device_returned:
            source.gaps.append(gap)
        source.last_arrival = self.now

    def close(self, s, ends, at):
        for end in sorted(ends):
            readings = s.open.pop(end)
            s.closed_until, s.panes[end] = max(s.closed_until, end), list(dict.fromkeys(readings))
            self.repeated += len(readings) - len(s.panes[end])
            w1, w5, w10 = (stats(s.panes, end - span, end) for span in (1000, 5000, 10_000))
            for name, window in (("w1", w1), ("w5", w5), ("w10", w10)):
                self.windows.append((s.who[0], name, end, *window[:-1]))
            self.judge(s, end, w1.mean, ahead(w5, w10))
            for kind, period in (*ROLLUPS, ("prediction", self.predict_ms)):
                s.dirty.add((kind, period, (end - 1000) // period * period))
            # earlier buckets, and this pane's bucket if it ends with it
            self.emit(s, end, ["rollup", "prediction"], at)
            self.deviate(s, end, w10)

    def emit(self, s, until, kinds, at=NEVER):
        for kind, period, start in sorted(s.dirty):
            if kind in kinds and start + period <= until:
                s.dirty.remove((kind, period, start))
                b, name = stats(s.panes, start, start + period), s.who[0]
                if kind == "rollup":
                    self.rollups.append((period, name, start, *b[:4], b.last))
                else:
                    self.predictions.append((name, start + period, b.mean, b.count))
                    if start + period + HORIZON > at:
                        self.forecasts.append(self.predictions[-1])

    def judge(self, s, end, mean, trend):
        verdicts = [judged(rule, s.panes, mean, trend) for rule in s.rules]
        s.streaks = [n + 1 if v[0] else 0 for n, v in zip(s.streaks, verdicts, strict=True)]
        asking = [r for r, n in zip(s.rules, s.streaks, strict=True) if n >= r["raise_after"]]
        asked = max((r["level"] for r in asking), default=0)
        # no rule raises or holds a level above this floor
        floor = max([asked, *(r["level"] for r, v in zip(s.rules, verdicts, strict=True) if v[1])])
        s.changes.append(asked > s.k or s.k > floor)
        s.k = asked if s.changes[-1] else s.k
        # in thousandths: (0.8 + 0.02 * i) / 20 is 40 + i of them
        share = sum(40 + i for i, changed in enumerate(s.changes[-20:]) if changed)
        if share < 250 if s.flapping else share > 500:
            s.flapping, detail = (False, "end") if s.flapping else (True, "begin")
            self.events.append((*s.who, end, "PATTERN_CHANGE", None, detail, False))
        s.quiet = s.quiet + 1 if s.level > floor else 0
        if asked > s.level or (s.level > floor and s.quiet >= s.need):
            self.events.append((*s.who, end, "LEVEL", s.level, asked, s.flapping))
            s.level, s.quiet = asked, 0
            s.need = next((r["clear_after"] for r in asking if r["level"] == asked), None)

    def deviate(self, s, end, w10):
        target = (end - HORIZON) // self.predict_ms * self.predict_ms + HORIZON
        made = [p[2] for p in self.predictions if p[:2] == (s.who[0], target - HORIZON)]
        if made and target > max([NEVER, *s.panes][-2], end - 60_000):
            error, size = abs(w10.mean - made[0]), max(abs(made[0]), 1e-6)
            off = (error >= 0.5 or error / size >= 0.2) and error > 2 * w10.std * (1 + 1e-9)
            if off != s.deviating:
                s.deviating, after = off, off and (1 if error / size < 0.5 else 2)
                self.events.append((*s.who, end, "PREDICTION_DEVIATION", None, after, False))

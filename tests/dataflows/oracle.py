"""The engine of one partition, one reading at a time: slow and simple.

Times are in milliseconds, the `ts` of a reading in microseconds. Bounds of rules that are not set
are infinite; reset bounds that a rule does not state are None.

A sensor has a live lane and, while late readings come in, a second lane for them: a session.
In each lane the rules judge the closed panes.
"""

from collections import defaultdict, namedtuple
from math import inf
from statistics import correlation, fmean, linear_regression, pstdev
from types import SimpleNamespace

NEVER, HORIZON, DAY = -(10**15), 600_000, 86_400_000
LARGEST = 9_999_999_999.0  # of an error
ROLLUPS = ("rollup", 60_000), ("rollup", 300_000), ("rollup", 3_600_000)
Stats = namedtuple("Stats", "count mean min max std first last trend fit")
Reading = namedtuple("Reading", "ts value seq", defaults=[0])
Change = namedtuple("Change", "at before after reason", defaults=[""])  # of a level


def pane_end(ts):
    """The end of the pane that contains this reading."""
    return ts // 1_000_000 * 1000 + 1000


def stats(panes, start, end):
    """Stats of the readings in the panes {end: [Reading]} that end in (start, end]."""
    # the sort is stable: readings of the same ts keep their order of arrival
    inside = sorted((r for at in panes if start < at <= end for r in panes[at]), key=lambda r: r.ts)
    xs, ys = [(r.ts / 1000 - end) / 1000 for r in inside], [r.value for r in inside]
    mean = min(max(fmean(ys), min(ys)), max(ys))
    trend = linear_regression(xs, ys).slope if xs[0] < xs[-1] else 0.0
    fit = correlation(xs, ys) ** 2 if trend and min(ys) < max(ys) else 0.0
    return Stats(len(ys), mean, min(ys), max(ys), pstdev(ys), ys[0], ys[-1], trend, fit)


def expects_more(readings, before):
    """Whether the last pane of these sorted readings of one record can be expected to get more;
    `before` is the watermark before them, which the last of them raises."""
    times, known = [r.ts for r in readings], before > NEVER
    if known and len(times) == 1:  # then the reading before it tells how far apart they are
        times = [before, *times]
    continues = not known or times[0] - before < 1_000_000
    rest = pane_end(times[-1]) * 1000 - times[-1]
    return continues and 0 < times[-1] - times[0] < rest * (len(times) - 1)


def is_rhythm(gaps):
    """Whether the last of these gaps between packets, in seconds, are alike."""
    gaps = gaps[-8:]
    if len(gaps) < 8:
        share, least = (0.05, 1) if len(gaps) == 2 else (0.25, 2)
        return len(gaps) > 1 and max(gaps) - min(gaps) <= max(share * min(gaps), least)
    m = sorted(gaps)[3]
    near = [g for g in gaps if m / 1.35 - 1 <= g <= 1.35 * m + 1]
    missed = [g for g in gaps if abs(g - 2 * m) <= 0.15 * m or abs(g - 3 * m) <= 0.15 * m]
    return sum(g in near or g in missed for g in gaps) >= 7


def in_order(rules):
    """Thresholds sorted by id, the delta, then forecasts sorted by threshold id."""
    thresholds = sorted((r for r in rules if r["kind"] == "threshold"), key=lambda r: r["id"])
    critical = [r for r in thresholds if r["level"] == 2 and not r["equal"] and r["forecast_after"]]
    soon = [dict(r, kind="forecast", level=1, raise_after=r["forecast_after"]) for r in critical]
    return thresholds + [r for r in rules if r["kind"] == "delta"] + soon


def judged(rule, panes, w1, trend, usual):
    """(met, holds) of the rule at the last of the closed panes; `usual` is None if unknown."""
    if rule["kind"] == "delta":
        return (delta_reached(rule, panes, w1.mean),) * 2
    low, high = rule["low"], rule["high"]
    if rule["kind"] == "forecast":
        bound = high if trend > 0 else low
        return (low <= w1.mean <= high and trend != 0 and (bound - w1.mean) / trend <= 60,) * 2
    if rule["equal"]:
        return (any(round(r.value, 5) == round(low, 5) for r in panes[max(panes)]),) * 2
    reset_low, reset_high = resets(rule, usual)
    return w1.min < low or w1.max > high, w1.min < reset_low or w1.max > reset_high


def resets(rule, usual):
    """The reset bounds (low, high): those that the rule states, otherwise derived ones."""
    low, high, below, above = (rule[k] for k in ("low", "high", "reset_low", "reset_high"))
    margin = 0.05 * (high - low)
    if margin == inf:  # 5 % of the way from the bound to the usual value, or to 0
        x = usual or 0
        near_low = low + 0.05 * (x - low) if -inf < low < x else low
        near_high = high - 0.05 * (high - x) if x < high < inf else high
    else:  # 5 % of the span, or nearer to the bound if the sensor is usually there
        near_low, near_high = low + margin, high - margin
        if usual is not None and near_high < usual < high:
            near_high = high - 0.05 * (high - usual)
        elif usual is not None and low < usual < near_low:
            near_low = low + 0.05 * (usual - low)
        # a derived bound does not cross a stated one
        near_low = min(near_low, near_high if above is None else above)
        near_high = max(near_high, near_low if below is None else below)
    return near_low if below is None else below, near_high if above is None else above


def delta_reached(rule, panes, mean):
    *before, end = panes
    if not before or sum(len(panes[at]) for at in before) < rule["min_readings"]:
        return False
    m0, dt = stats(panes, before[-1] - 1000, before[-1]).mean, (end - before[-1]) / 1000
    d, r = abs(mean - m0), abs(mean - m0) / abs(m0) if abs(m0) > 1e-6 else 0
    changes = {"abs_delta": d, "rel_delta": r, "abs_slope": d / dt, "rel_slope": r / dt}
    return any(value >= rule[bound] for bound, value in changes.items())


class Levels:
    """The level of a lane. Between panes the value of the last one stands."""

    # need: the panes or seconds of quiet that lower the level; clear_due: when the seconds are over
    level = quiet = need = clear_due = 0
    usual = calm = 0  # the mean of the means of `calm` panes in which no threshold was met
    abnormal = False  # the last pane: it plays no part in comparisons with predictions

    def __init__(self, rules):
        # a streak: panes in a row that met the rule; asks: the rule asks for its level
        self.streaks = [SimpleNamespace(**r, rule=r, count=0, asks=False) for r in rules]

    def asked(self):
        return max((s.level for s in self.streaks if s.asks), default=0)

    def change(self, at, reason=""):
        """Set the level to what is asked for."""
        before, self.level, self.quiet = self.level, self.asked(), 0
        cause = next((s for s in self.streaks if s.asks and s.level == self.level), None)
        self.need = cause.clear_after if cause else 5
        return Change(at, before, self.level, reason)

    def pane(self, panes, w1, trend=0):  # a trend of 0 meets no forecast
        """Judge the last pane: (the level asked for, no rule holds a level above, changes)."""
        end, usual, held = max(panes), self.usual if self.calm >= 10 else None, 0
        for s in self.streaks:
            met, holds = judged(s.rule, panes, w1, trend, usual)
            s.count = s.count + 1 if met else 0
            if s.count == 1:
                s.due = end - 1000 + s.raise_after * 1000
            s.asks = met and (s.count >= s.raise_after or (s.kind != "forecast" and end >= s.due))
            held = max(held, s.level if holds else 0)
        met = any(s.count for s in self.streaks if s.kind == "threshold")
        if not met:
            self.calm += 1
            self.usual += (w1.mean - self.usual) / min(self.calm, 1000)
        asked, floor = self.asked(), max(self.asked(), held)
        self.quiet = self.quiet + 1 if self.level > floor else 0
        if self.quiet == 1:
            self.clear_due = end - 1000 + self.need * 1000
        cleared = self.quiet and (self.quiet >= self.need or end >= self.clear_due)
        changes = [self.change(end)] if asked > self.level or cleared else []
        self.abnormal = met or self.level > 0
        return asked, floor, changes

    def stand(self, until):
        """The changes up to this time, the last pane's value having stood."""
        changes = []
        while True:
            waiting = [s for s in self.streaks if s.kind == "threshold" and s.count and not s.asks]
            clear = self.clear_due if self.quiet else inf
            due = min([clear, *(s.due for s in waiting)])
            if due > until:
                return changes
            for s in waiting:
                s.asks = s.due == due
            if self.asked() > self.level or (due == clear and self.asked() < self.level):
                changes.append(self.change(due, "timer"))
            elif due == clear:
                self.quiet = 0


class Band:
    """How far a sensor usually is from its predictions, and whether it is further off now."""

    # largest: an error, which fades from largest_at on; worst: the error while it is off
    count = first = largest_at = 0
    usual = largest = worst = 0.0
    off, told_at = False, NEVER

    def __init__(self, errors=200, span=DAY, apart=2 * DAY):
        self.errors, self.span, self.apart = errors, span, apart

    def compare(self, t, e, watched=True):
        """Take the error of a pane that ends at `t`. The result is the band, None if unknown."""
        self.first = self.first if self.count else t
        largest = self.largest * max(0, 1 - (t - self.largest_at) / DAY / 20)
        band, was = 1.5 * max(largest, 2 * self.usual), self.off
        known = self.count >= self.errors and t - self.first >= self.span
        self.off = watched and known and e > band and (was or t - self.told_at >= self.apart)
        self.told_at = t if self.off and not was else self.told_at
        self.worst = max(self.worst, e)
        if not self.off:
            most = 4 * max(largest, self.usual) if known and band > 0 else inf
            if min(self.worst, most) >= largest:
                self.largest, self.largest_at = min(self.worst, most), t
            self.worst = 0.0
        x = min(e, 10 * self.usual) if known and self.usual > 0 else e
        share = max(1 / (self.count + 1), 0.002) * (0.95 if x > self.usual else 0.05)
        self.usual = self.usual + share * (x - self.usual) if self.count else e
        self.count = min(self.count + 1, 1_000_000)
        return band if known else None


def remember(told, lasting, change):
    """Keep in mind that a lane told of this change. `told`: the sensor's episodes of both lanes;
    `lasting`: those of this lane that still last, by level."""
    for level in [level for level in lasting if level > change.after]:
        lasting.pop(level).end = change.at
    if change.after > max(lasting, default=0):
        begin = change.at - 1000 if change.after > change.before else change.at
        lasting[change.after] = SimpleNamespace(level=change.after, begin=begin, end=inf)
        told.append(lasting[change.after])


class Lane:
    """The panes of one sensor in one lane, open and closed, and what the rules say of them."""

    # mark: the highest ts; closed: panes up to this end take no reading; stands_at: from this
    # arrival on the last pane's value stands. Of a session: base: in ms, where its grace counts
    # from; live_closed: `closed` of the live lane when the last reading was late; told, peak: the
    # decision on the present incident
    mark = closed = stands_at = live_closed = NEVER
    idle_at = base = inf
    taken = told = peak = 0

    def __init__(self, rules):
        self.open, self.panes = defaultdict(list), {}
        self.levels, self.lasting = Levels(rules), {}


class Heard:
    """A device or a sensor; `who` is (sensor, device) as events name it."""

    last_arrival = returned = NEVER
    k, device, session = 0, None, None
    silent = flapping = False
    silences = 0, 0  # the last two, in seconds

    def __init__(self, who, rules=(), band=None):
        self.who, self.gaps, self.packets, self.pauses = who, [], [], []
        self.rules, self.live, self.told = rules, Lane(rules), []
        self.changes, self.dirty = [False] * 20, set()
        # made: the predictions that are compared; abnormal: the ends of panes
        self.band, self.made, self.abnormal = band, {}, set()


class Oracle:
    """The engine: `record` takes the input; the lists and counters have the results.

    `sensor_silence`, `device_silence`: {id: seconds} of those that state when they are silent.
    `deviations`: whether they are watched; `errors`, `span`, `apart`: what a band needs.
    """

    def __init__(
        self, grace, idle, rules=(), predict_ms=60_000, limit=10_000, late_grace=600_000,
        sensor_silence=None, device_silence=None, deviations=True,
        errors=200, span=DAY, apart=2 * DAY,
    ):  # fmt: skip
        self.grace, self.idle, self.rules, self.predict_ms = grace, idle, rules, predict_ms
        self.sensor_silence, self.device_silence = sensor_silence or {}, device_silence or {}
        self.deviations, self.band = deviations, (errors, span, apart)
        self.limit, self.late_grace, self.now = limit, late_grace, NEVER
        self.devices, self.sensors, self.stored = {}, {}, set()
        self.windows, self.rollups, self.predictions, self.events = [], [], [], []
        self.forecasts = []  # the predictions that were made before their target
        self.late, self.late_windows = [], []
        self.future = self.duplicates = self.repeated = self.too_late = 0

    def record(self, arrival, device=None, packet_id="", readings=()):
        self.now = max(self.now, arrival)
        self.pass_time()
        if device is not None:
            self.packet(arrival, device, packet_id, readings)

    def packet(self, arrival, device, packet_id, readings):
        named = defaultdict(list)
        for name, ts, *rest in sorted(readings, key=lambda reading: reading[1]):
            r = Reading(round(ts * 1000), *rest)
            named[name].append(r)
            self.stored.add((name, r.ts, r.seq, round(r.value, 5)))
        d = self.devices.setdefault(device, Heard((None, device)))
        if packet_id in d.packets[-64:]:
            self.duplicates += 1
            return
        d.packets.append(packet_id)
        self.watch(d, device, named)
        for name, mine in named.items():
            dated = [r for r in mine if r.ts <= (arrival + 300_000) * 1000]
            self.future += len(mine) - len(dated)
            self.take(self.sensors[name], dated, d)

    def take(self, s, readings, d):
        lane, before, late = s.live, s.live.mark, []
        for r in readings:
            if pane_end(r.ts) <= lane.closed:
                late.append((r, lane.closed))
                continue
            lane.open[pane_end(r.ts)].append(r)
            lane.mark = max(lane.mark, r.ts)
            ends = [end for end in lane.open if (end + self.grace) * 1000 <= lane.mark]
            self.close(s, ends, self.now)
            lane.closed = max(lane.closed, pane_end(lane.mark - self.grace * 1000) - 1000)
            self.tell(s, lane, lane.levels.stand(lane.closed))
        if lane.mark > before:
            more = expects_more(readings, before)
            lane.idle_at = self.now + (self.hold(d, unknown=60_000) if more else self.idle)
            # a packet that spans many seconds is followed by as long a pause
            lane.stands_at = self.now + self.idle + (readings[-1].ts - readings[0].ts) / 1000
        if late:
            self.take_late(s, late, d)

    def hold(self, d, unknown):
        """How long to wait for the device's next packet."""
        usual = 2 * max(d.pauses[-4:]) if d.pauses else unknown
        return max(self.idle, min(usual, 300_000))

    def take_late(self, s, readings, d):
        lane = s.session = s.session or Lane(s.rules)
        full, base = lane.taken >= self.limit, lane.mark // 1000
        if full or base - lane.base >= 2 * self.late_grace:
            lane.base = base if full else base - self.late_grace
            lane.closed, lane.taken = lane.base // 1000 * 1000, 0
            self.judge_late(s, lane, [end for end in lane.open if end <= lane.closed])
        for r, lane.live_closed in readings:
            self.late.append((s.who[0], r.ts / 1000, r.value))
            lane.taken += 1
            if pane_end(r.ts) <= lane.closed:
                self.too_late += 1
            else:
                lane.open[pane_end(r.ts)].append(r)
                lane.mark = max(lane.mark, r.ts)
        lane.base = min(lane.base, lane.mark // 1000)  # the mark after the first record
        lane.idle_at = self.now + self.hold(d, unknown=0)

    def pass_time(self):
        for s in self.sensors.values():
            lane = s.live
            if lane.idle_at <= self.now:
                self.close(s, lane.open, lane.idle_at)
                lane.closed = max(lane.closed, pane_end(lane.mark))
                self.emit(s, self.now - 10_000, ["rollup"])
                stood = min(self.now, max(lane.panes) + self.now - lane.stands_at)
                self.tell(s, lane, lane.levels.stand(max(lane.closed, stood)))
            if s.session and s.session.idle_at <= self.now:
                self.judge_late(s, s.session, s.session.open, over=True)
                s.session = None
            if self.own_silence(s) is not None:
                self.fall_silent(s, s.last_arrival)
        for d in self.devices.values():
            self.fall_silent(d, d.last_arrival)

    def watch(self, d, device, named):
        self.hear(d)
        for name, s in self.sensors.items():
            if s.device == device and name not in named:
                self.fall_silent(s, max(s.last_arrival, d.returned))
        for name in named:
            if name not in self.sensors:
                rules = in_order([rule for rule in self.rules if rule["sensor"] == name])
                self.sensors[name] = Heard((name, None), rules, Band(*self.band))
            s = self.sensors[name]
            s.device = device
            self.hear(s, d.returned if self.own_silence(s) is None else NEVER)

    def own_silence(self, source):
        """The seconds that a device or a sensor states, or None; with 0 it is never silent."""
        sensor, device = source.who
        return self.sensor_silence.get(sensor, self.device_silence.get(device))

    def silent_after(self, source):
        """After which time without data a device or a sensor is silent."""
        own = self.own_silence(source)
        if own is not None:
            return 1000 * own or inf
        usual = min(2 * min(source.silences), 86_400)
        longest = max([usual, *(5 * gap for gap in source.gaps[-8:])])
        return max(30_000, 1000 * longest) if is_rhythm(source.gaps) else inf

    def fall_silent(self, source, since):
        at = since + self.silent_after(source)
        if not source.silent and at <= self.now:
            source.silent = True
            self.event(source, at, "NO_DATA", None, "begin")

    def hear(self, source, device_returned=NEVER):
        gap = self.now // 1000 - source.last_arrival // 1000  # 0 if it returns now
        if gap > 0 and source.last_arrival > NEVER:
            source.pauses.append(gap * 1000)
        if source.silent:
            source.silent, source.returned = False, self.now
            silence = min((self.now - source.last_arrival) // 1000, 2**31 - 1)
            source.silences = source.silences[1], silence
            self.event(source, self.now, "DATA_RESUMED", None, "end")
        elif gap > 0 and NEVER < source.last_arrival >= device_returned:
            source.gaps.append(gap)
        source.last_arrival = self.now

    def event(self, source, at, code, before, after, silent=False, late=False, reason=""):
        more = late, self.now if late else None, reason
        self.events.append((*source.who, at, code, before, after, silent, *more))

    def tell(self, s, lane, changes):
        """Tell of changes of a lane's level."""
        late = lane is not s.live
        for c in changes:
            remember(s.told, lane.lasting, c)
            silent = s.flapping and not late
            self.event(s, c.at, "LEVEL", c.before, c.after, silent, late, c.reason)

    def shut(self, s, lane, end, windows):
        """Close a pane of a lane."""
        readings = lane.open.pop(end)
        lane.panes[end] = list(dict.fromkeys(readings))
        self.repeated += len(readings) - len(lane.panes[end])
        found = [stats(lane.panes, end - span, end) for span in (1000, 5000, 10_000)]
        for name, window in zip(("w1", "w5", "w10"), found, strict=True):
            windows.append((s.who[0], name, end, *window[:-1]))
        return found

    def close(self, s, ends, at):
        for end in sorted(ends):
            s.live.closed = max(s.live.closed, end)
            w1, w5, w10 = self.shut(s, s.live, end, self.windows)
            self.tell(s, s.live, s.live.levels.stand(end - 1000))
            clear = w10.count >= 5 and w10.fit >= 0.9 and w5.trend * w10.trend > 0
            trend = min(w5.trend, w10.trend, key=abs) if clear else 0  # a forecast extends it
            asked, floor, changes = s.live.levels.pane(s.live.panes, w1, trend)
            if s.live.levels.abnormal:
                s.abnormal.add(end)
            self.flap(s, end, asked, floor)
            self.tell(s, s.live, changes)
            for kind, period in (*ROLLUPS, ("prediction", self.predict_ms)):
                s.dirty.add((kind, period, (end - 1000) // period * period))
            # earlier buckets, and this pane's bucket if it ends with it
            self.emit(s, end, ["rollup", "prediction"], at)
            self.deviate(s, end, w10)

    def judge_late(self, s, lane, ends, over=False):
        """Close panes of a session and tell of its incidents; `over`: the session ends."""
        changes, ends = [], sorted(ends)
        for end in ends:
            w1 = self.shut(s, lane, end, self.late_windows)[0]
            changes += lane.levels.stand(end - 1000) + lane.levels.pane(lane.panes, w1)[2]
        if over and lane.levels.level:
            changes.append(Change(ends[-1], lane.levels.level, 0, "late_end"))
        for n, change in enumerate(changes):
            if not change.before:  # an incident begins
                lane.told, lane.peak = False, 0
            if not lane.told and change.after > lane.peak:
                self.decide(s, lane, changes[n:], ends)
            if lane.told:
                self.tell(s, lane, [change])
                if change.reason == "late_end" and n:
                    self.events.pop()  # the event before it is stored as ended

    def decide(self, s, lane, changes, ends):
        """Decide whether to tell of an incident from the first of these changes on."""
        count = next((n for n, c in enumerate(changes, 1) if not c.after), len(changes))
        incident, last = changes[:count], changes[count - 1]
        until = ends[-1] if last.after else last.at
        if last.reason == "late_end":  # it ends only because its session does
            until += ends[-1] - ends[-2] if len(ends) > 1 else 1000
        begin, known = changes[0].at - 1000, lane.live_closed
        lane.peak = max(c.after for c in incident)
        rivals = [e for e in s.told if e.level >= lane.peak and e.end > known - 86_400_000]
        # it overlaps none of them and is in no short gap between two of them
        before = max((e.end for e in rivals if e.begin < min(until, known)), default=-inf)
        after = min((e.begin for e in rivals if until <= e.begin < known), default=inf)
        lane.told = before <= begin and after - before >= 60_000

    def flap(self, s, end, asked, floor):
        s.changes.append(asked > s.k or s.k > floor)
        s.k = asked if s.changes[-1] else s.k
        # in thousandths: (0.8 + 0.02 * i) / 20 is 40 + i of them
        share = sum(40 + i for i, changed in enumerate(s.changes[-20:]) if changed)
        if share < 250 if s.flapping else share > 500:
            s.flapping, detail = (False, "end") if s.flapping else (True, "begin")
            self.event(s, end, "PATTERN_CHANGE", None, detail)

    def emit(self, s, until, kinds, now=NEVER):
        for kind, period, start in sorted(s.dirty):
            if kind in kinds and start + period <= until:
                s.dirty.remove((kind, period, start))
                b, name = stats(s.live.panes, start, start + period), s.who[0]
                if kind == "rollup":
                    self.rollups.append((period, name, start, *b[:4], b.last))
                else:
                    self.predictions.append((name, start + period, b.mean, b.count))
                    if not any(start < at <= start + period for at in s.abnormal):
                        s.made[start + period] = b.mean
                    if now < start + period + HORIZON:
                        self.forecasts.append(self.predictions[-1])

    def deviate(self, s, end, w10):
        target = (end - HORIZON) // self.predict_ms * self.predict_ms + HORIZON
        made = s.made.get(target - HORIZON)
        due = made is not None and target > max([NEVER, *s.live.panes][-2], end - 60_000)
        if due and end not in s.abnormal:
            off = s.band.off
            s.band.compare(end, min(abs(w10.mean - made), LARGEST), self.deviations)
            if s.band.off != off:
                self.event(s, end, "PREDICTION_DEVIATION", None, int(s.band.off))

    def final_rollups(self):
        """{(period, sensor, bucket): (count, mean, min, max, last)} of what is stored."""
        buckets = defaultdict(list)
        for name, us, _, value in sorted(self.stored, key=lambda row: row[1]):
            for _, period in ROLLUPS:
                buckets[period, name, us // (period * 1000) * period].append(value)
        return {key: (len(v), fmean(v), min(v), max(v), v[-1]) for key, v in buckets.items()}

    def stale_needed(self):
        """The buckets whose emission with the most samples lacks a stored reading: the engine
        must have named these stale after their last reading arrived."""
        emitted = {row[:3]: row[3] for row in sorted(self.rollups)}  # the most samples come last
        return {key for key, row in self.final_rollups().items() if emitted.get(key) != row[0]}

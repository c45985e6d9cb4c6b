"""The status of running processes as text for a terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ops.status import EdgeStatus, Flow, Process, Seconds, Status

_SNAPSHOT_OLD_S = 60.0
_LAG_S = 60.0


def status_tables(status: Status) -> Group:
    """A paragraph for each process, and a line for each URL that does not answer."""
    processes: list[Process] = [*status.edges, *status.services, *status.flows]
    parts = [part for process in processes for part in (*_paragraph(process), Text())]
    silent = (Text(f"{url} does not answer", "bold red") for url in status.silent)
    return Group(*parts, *silent)


def _paragraph(process: Process) -> Iterator[RenderableType]:
    if isinstance(process, Flow):
        yield from _flow(process)
    elif isinstance(process, EdgeStatus):
        yield _head("edge", process, _broker(process.broker_up))
        acknowledged = process.acknowledged
        yield _line(
            ("readings accepted", process.accepted, ""),
            ("refused", process.refused, "yellow"),
            ("clock-skewed", process.clock_skewed, "yellow"),
        )
        yield _requests(process.requests)
        yield _line(
            ("in flight", process.in_flight, ""),
            ("queue", f"{process.queue_fill:.0%}", ""),
            ("acknowledged in", _both(acknowledged), ""),
        )
    else:
        yield _head("predict", process)
        yield _requests(process.requests)
        yield _line(("answered in", _both(process.answered), ""))


def _flow(flow: Flow) -> Iterator[RenderableType]:
    yield _head("flow", flow, _broker(flow.broker_up))
    yield _line(
        ("readings", flow.readings, ""),
        ("panes", flow.panes, ""),
        ("events", flow.events, ""),
        ("late", flow.late, "yellow"),
        ("clock-skewed", flow.clock_skewed, "yellow"),
    )
    yield _line(
        ("repeated", flow.repeated, ""),
        ("dead letters", flow.dead_letters, "bold red"),
        ("rules refused", flow.rules_refused, "bold red"),
    )
    yield _line(
        ("sensors", sum(flow.sensors.values()), ""),
        *((level, count, "") for level, count in flow.sensors.items()),
        ("too noisy for the detector", flow.unjudged, "yellow"),
    )
    age = flow.snapshot_age_seconds
    old = age is not None and age > _SNAPSHOT_OLD_S
    yield _line(
        ("last snapshot", "none yet" if age is None else f"{_span(age)} ago", "red" * old),
        ("interval", _seconds(flow.epoch.mean), ""),
        ("copied in", _both(flow.snapshot), ""),
    )
    partitions = _table("partition", "records behind", "time behind", "records read")
    for partition in flow.partitions:
        seconds = partition.lag_seconds
        partitions.add_row(
            str(partition.number),
            _number(partition.lag_records),
            "not known yet" if seconds is None else _span(seconds),
            _number(partition.records),
            style="bold red" if seconds is not None and seconds > _LAG_S else "",
        )
    yield Padding(partitions, (1, 0, 0, 2), expand=False)
    sinks = _table(
        "sink", "waiting", "batches", "p50", "p99", "flush", "blocked", "retries", "refused"
    )
    for sink in flow.sinks:
        sinks.add_row(
            sink.name.removeprefix("write_"),
            _number(sink.waiting_rows),
            _number(sink.write.count),
            _seconds(sink.write.p50),
            _seconds(sink.write.p99),
            _seconds(sink.flush.p99),
            _span(sink.blocked_seconds),
            _number(sink.retries),
            Text(_number(sink.dead_letters), "bold red" if sink.dead_letters else ""),
        )
    yield Padding(sinks, (1, 0, 0, 2), expand=False)


def _head(kind: str, process: Process, *more: Text) -> Text:
    head = Text(f"{kind} {process.url}", "bold").append(f"  up {_span(process.up_seconds)}", "dim")
    for part in more:
        head.append("  ").append(part)
    return head


def _broker(up: bool) -> Text:
    return Text("broker answers", "green") if up else Text("broker does not answer", "bold red")


def _requests(requests: dict[str, int]) -> RenderableType:
    styles = {"2": "green", "4": "yellow", "5": "bold red"}
    figures = [
        (f"HTTP {status}", count, styles.get(status[0], ""))
        for status, count in sorted(requests.items())
        if count
    ]
    return _line(*figures)


def _line(*figures: tuple[str, int | str, str]) -> RenderableType:
    """Names and figures. The style applies if the figure is not 0."""
    text = Text()
    for name, figure, style in figures:
        shown = _number(figure) if isinstance(figure, int) else figure
        text.append(f"{name} ", "dim").append(shown, style if figure else "").append("   ")
    text.rstrip()
    return Padding(text, (0, 0, 0, 2), expand=False)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    return table


def _number(figure: int) -> str:
    return f"{figure:,}".replace(",", " ")


def _both(seconds: Seconds) -> str:
    if seconds.p50 is None:
        return "not measured yet"
    return f"{_seconds(seconds.p50)} (p50) {_seconds(seconds.p99)} (p99)"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _span(seconds: float) -> str:
    """A duration in up to two units.

    >>> _span(0.25), _span(75), _span(90_061)
    ('0.2 s', '1 min 15 s', '1 d 1 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(place for place, (count, _) in enumerate(units) if count)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2])

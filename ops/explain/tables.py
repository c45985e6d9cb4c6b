"""An explanation as text for a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ops.explain.evidence import is_silence
from ops.explain.explanation import Explanation, Tie, clock
from ops.explain.past_panes import PaneLine
from ops.explain.rule_words import RuleWords
from rules.words import duration


def tables(explained: Explanation) -> Iterator[RenderableType]:
    """Yield the head, rules, panes or arrivals, predictions, timers and notes, in this order."""
    yield _head(explained)
    if explained.rules:
        yield _rules(explained.rules)
    if explained.panes:
        yield _panes(explained)
    if explained.arrivals:
        yield _arrivals(explained)
    if explained.predictions:
        yield _predictions(explained)
    timers = _table("timers", "", "", header=False)
    for timer in explained.timers:
        timers.add_row(timer.name, Text(timer.said))
    yield timers
    for note in explained.notes:
        yield Text(f"\nnote: {note}", style="yellow")


def _table(title: str, *columns: str, header: bool = True) -> Table:
    return Table(
        *map(escape, columns), title=f"\n{title}", title_justify="left", title_style="bold",
        box=None, show_header=header, header_style="dim", pad_edge=False,
    )  # fmt: skip


def _head(explained: Explanation) -> Table:
    event = explained.event
    who = event.device if event.sensor is None else f"{event.device} / {event.sensor}"
    rows = {
        "what": f"{event.event_type} {event.event_code}: {event.title}",
        "when": f"{clock(event.at)} UTC",
        "who": who,
        "message": event.message,
        "status": _status(explained),
    }
    if explained.ended:
        rows["it ended"] = _tie(explained.ended)
    if not is_silence(event):
        since = f", in force since {clock(explained.rules_since)}" if explained.rules_since else ""
        rows["rules"] = f"version {explained.rules_version}{since}"
    rows["key"] = event.event_key
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _status(explained: Explanation) -> str:
    event = explained.event
    if explained.ended_by:
        return f"{event.status}, ended by {_tie(explained.ended_by)}"
    if event.resolved_at is not None and event.resolved_at > event.at:
        return f"{event.status} at {clock(event.resolved_at)}, not by an event"
    return event.status


def _tie(tie: Tie) -> str:
    return f"{tie.code} of {clock(tie.at)}, {tie.key}"


def _rules(rules: list[RuleWords]) -> Table:
    table = _table(
        "rules of the sensor at the time",
        "", "rule", "level", "condition", "clears when", "raise after", "clear after",
    )  # fmt: skip
    for rule in rules:
        table.add_row(
            rule.asked,
            Text(f"{rule.kind} {rule.name}"),
            rule.level,
            Text(rule.condition),
            Text(rule.reset),
            str(rule.raise_after),
            str(rule.clear_after),
            style="bold" if rule.asked == "asked" else None,
        )
    return table


def _panes(explained: Explanation) -> Table:
    unit = explained.event.unit
    table = _table(
        "one-second panes", "", "ended at (UTC)", "readings", f"mean {unit}".strip(),
        "min", "max", f"trend {unit}/s" if unit else "trend /s", "verdict",
    )  # fmt: skip
    for column in table.columns[2:7]:
        column.justify = "right"
    if not any(pane.said for pane in explained.panes):
        table.columns[-1].header = ""
    days = {clock(pane.end)[:10] for pane in explained.panes} | {clock(explained.event.at)[:10]}
    for index, pane in enumerate(explained.panes):
        if explained.left_out and index == explained.left_out[0]:
            table.add_row(
                "", "...", "", "", "", "", "", f"{duration(explained.left_out[1])} left out"
            )
        _add_pane(table, pane, explained.event.at, 0 if len(days) > 1 else len("2024-11-24 "))
    return table


def _add_pane(table: Table, pane: PaneLine, event_at: int, cut: int) -> None:
    table.add_row(
        "event" if pane.end == event_at else "",
        clock(pane.end)[cut:],
        str(pane.count),
        *("" if value is None else f"{value:.6g}" for value in (pane.mean, pane.min, pane.max)),
        "" if pane.trend is None else f"{pane.trend:+.3g}",
        Text(f"{pane.said} ({pane.detail})" if pane.said and pane.detail else pane.said),
        style="bold" if pane.end == event_at else None,
    )


def _arrivals(explained: Explanation) -> Table:
    who = "device" if explained.event.sensor_id is None else "sensor"
    table = _table(f"last arrivals of the {who}", "received at (UTC)", "readings", "after")
    for arrival in explained.arrivals:
        gap = "" if arrival.gap_seconds is None else f"{arrival.gap_seconds:g} s"
        table.add_row(clock(arrival.at), str(arrival.readings), gap)
    return table


def _predictions(explained: Explanation) -> Table:
    table = _table("prediction", "model", "made at (UTC)", "for", "value", "confidence", "readings")
    for prediction in explained.predictions:
        table.add_row(
            Text(prediction.model),
            clock(prediction.predicted_at),
            clock(prediction.target),
            f"{prediction.value:.6g} {explained.event.unit}".rstrip(),
            f"{prediction.confidence:g}",
            "" if prediction.readings is None else str(prediction.readings),
        )
    return table

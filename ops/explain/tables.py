"""An explanation as a person reads it on a terminal."""

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


def tables(told: Explanation) -> Iterator[RenderableType]:
    """Head, rules, panes or arrivals, prediction, timers, and notes, in this order."""
    yield _head(told)
    if told.rules:
        yield _rules(told.rules)
    if told.panes:
        yield _panes(told)
    if told.arrivals:
        yield _arrivals(told)
    if told.predictions:
        yield _predictions(told)
    timers = _table("timers", "", "", header=False)
    for timer in told.timers:
        timers.add_row(timer.name, Text(timer.said))
    yield timers
    for note in told.notes:
        yield Text(f"\nnote: {note}", style="yellow")


def _table(title: str, *columns: str, header: bool = True) -> Table:
    return Table(
        *map(escape, columns), title=f"\n{title}", title_justify="left", title_style="bold",
        box=None, show_header=header, header_style="dim", pad_edge=False,
    )  # fmt: skip


def _head(told: Explanation) -> Table:
    event = told.event
    who = event.device if event.sensor is None else f"{event.device} / {event.sensor}"
    rows = {
        "what": f"{event.event_type} {event.event_code}: {event.title}",
        "when": f"{clock(event.at)} UTC",
        "who": who,
        "message": event.message,
        "status": _status(told),
    }
    if told.ended:
        rows["it ended"] = _tie(told.ended)
    if not is_silence(event):
        since = f", in force since {clock(told.rules_since)}" if told.rules_since else ""
        rows["rules"] = f"version {told.rules_version}{since}"
    rows["key"] = event.event_key
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _status(told: Explanation) -> str:
    event = told.event
    if told.ended_by:
        return f"{event.status}, ended by {_tie(told.ended_by)}"
    if event.resolved_at is not None and event.resolved_at > event.at:
        return f"{event.status} at {clock(event.resolved_at)}, by no event"
    return event.status


def _tie(tie: Tie) -> str:
    return f"{tie.code} of {clock(tie.at)}, {tie.key}"


def _rules(rules: list[RuleWords]) -> Table:
    table = _table(
        "rules of the sensor then",
        "", "rule", "level", "condition", "lets go when", "raise after", "clear after",
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


def _panes(told: Explanation) -> Table:
    unit = told.event.unit
    table = _table(
        "panes of one second", "", "ended at (UTC)", "readings", f"mean {unit}".strip(),
        "min", "max", f"trend {unit}/s" if unit else "trend /s", "against the rule",
    )  # fmt: skip
    for column in table.columns[2:7]:
        column.justify = "right"
    if not any(pane.said for pane in told.panes):
        table.columns[-1].header = ""
    days = {clock(pane.end)[:10] for pane in told.panes} | {clock(told.event.at)[:10]}
    for index, pane in enumerate(told.panes):
        if told.left_out and index == told.left_out[0]:
            table.add_row("", "...", "", "", "", "", "", f"{duration(told.left_out[1])} left out")
        _add_pane(table, pane, told.event.at, 0 if len(days) > 1 else len("2024-11-24 "))
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


def _arrivals(told: Explanation) -> Table:
    who = "device" if told.event.sensor_id is None else "sensor"
    table = _table(f"last arrivals of the {who}", "received at (UTC)", "readings", "after")
    for one in told.arrivals:
        gap = "" if one.gap_seconds is None else f"{one.gap_seconds:g} s"
        table.add_row(clock(one.at), str(one.readings), gap)
    return table


def _predictions(told: Explanation) -> Table:
    table = _table("prediction", "model", "made at (UTC)", "for", "value", "confidence", "readings")
    for one in told.predictions:
        table.add_row(
            Text(one.model),
            clock(one.predicted_at),
            clock(one.target),
            f"{one.value:.6g} {told.event.unit}".rstrip(),
            f"{one.confidence:g}",
            "" if one.readings is None else str(one.readings),
        )
    return table

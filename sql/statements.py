"""The parameters of every statement and the result rows of every query, for all engines.

The text of a statement is in `statements/NAME.sql` of each engine. Times are epoch milliseconds UTC
unless stated otherwise. A parameter `rows` is a JSON array of the rows that the module of the sink
describes. Queries that list rules are declared with their kind of rule, in `rules/`.
"""

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Query(Generic[R]):
    """A statement that returns rows."""

    name: str
    row: type[R]
    """A NamedTuple whose fields are the columns, in their order."""
    parameters: tuple[str, ...] = ()


COMMANDS: dict[str, tuple[str, ...]] = {
    "acknowledge_event": ("handling",),
    "add_device": ("device_uuid", "name", "device_type"),
    "add_device_key": ("device_uuid", "sha256_of_key", "key_name"),
    "add_rule_version": ("ahead_ms", "version", "rules"),
    "add_sensor": ("device_uuid", "sensor_uuid", "sensor_type", "name", "unit"),
    "add_threshold": ("sensor_uuid", "name", "severity", "minimum", "maximum"),
    "copy_installation": ("tables",),
    "record_migration": ("name", "checksum"),
    "resolve_event": ("handling",),
    "revoke_device_keys": ("device_uuid",),
    "write_corrections": ("rows",),
    "write_dead_letter": ("sink", "row_key", "error", "row"),
    "write_events": ("rows",),
    "write_forecast": ("forecast",),
    "write_predictions": ("rows",),
    "write_progress": ("rows",),
    "write_readings": ("rows",),
    "write_rollups": ("rows",),
}
"""The parameters of each statement that writes. `handling` is a JSON object with `event_id`
and, if they are known, `user_id` and `note`."""


class Arrival(NamedTuple):
    """Readings that arrived together."""

    received_at: int
    readings: int


class RowCounts(NamedTuple):
    """The number of rows of each table."""

    readings: int
    events: int
    notifications: int
    dead_letters: int


class RollupOfBucket(NamedTuple):
    """The rollup of a bucket, computed from the stored readings: the fields of a row of
    `write_rollups`.
    """

    period_ms: int
    sensor_id: int
    bucket: str
    """As text, like in the parameter."""
    mean: float
    minimum: float
    maximum: float
    last_value: float
    samples: int


class SensorDevice(NamedTuple):
    """The device of an active sensor."""

    sensor_id: int
    device_uuid: str


class StoredEventRow(NamedTuple):
    """A row of `ml_events` with its notification and the names of the device and sensor."""

    id: int
    event_key: str
    event_type: str
    event_code: str
    title: str
    message: str | None
    payload: str | None
    status: str
    resolved_by: int | None
    device_id: int
    device: str
    sensor_id: int | None
    """None for an event of the device."""
    sensor: str | None
    unit: str | None
    is_read: int | None
    incident_key: str | None
    value: float | None
    at: int
    resolved_at: int | None
    ended_by: int | None
    """Id of the first event of the same sensor (or device) at the time this one ended."""


class EventId(NamedTuple):
    """A row of `ml_events`."""

    id: int


class EventDetails(NamedTuple):
    """A row of `ml_events` with its newest notification and the names of what it belongs to."""

    id: int
    event_key: str | None
    """None if a program without event keys wrote the event."""
    incident_key: str | None
    event_type: str
    event_code: str
    title: str
    message: str | None
    status: str
    operator_note: str | None
    device_id: int
    device: str
    sensor_id: int | None
    """None for an event of the device."""
    sensor: str | None
    unit: str | None
    acknowledged_by: int | None
    """Id of a user."""
    acknowledged_by_name: str | None
    resolved_by: int | None
    """Id of a user."""
    resolved_by_name: str | None
    notification_id: int | None
    is_read: int | None
    value: float | None
    at: int
    acknowledged_at: int | None
    resolved_at: int | None
    read_at: int | None


class ListedIncident(NamedTuple):
    """The events of one incident, without superseded ones."""

    incident_key: str | None
    """None if a program without incident keys wrote the event."""
    first_id: int
    """Id of the first event, which gives device, sensor, title and message."""
    active_id: int | None
    """Id of the newest active event."""
    acknowledged_id: int | None
    """Id of the newest acknowledged event."""
    level: int
    """The highest: 2 critical, 1 warning, 0 any other."""
    events: int
    device_id: int
    device: str
    sensor_id: int | None
    sensor: str | None
    title: str
    message: str | None
    began: int
    ended: int
    """The last time at which something began or ended, so the end if nothing is open."""
    unread: int
    """Number of unread notifications."""


class FoundSensor(NamedTuple):
    """A device with one of its sensors, active or not; null if it has none."""

    device_id: int
    sensor_id: int | None


class UserId(NamedTuple):
    """A row of `users`."""

    id: int


class Present(NamedTuple):
    """One row if something exists."""

    present: int


class LatestEvent(NamedTuple):
    """One of the newest events."""

    created_at: Any
    """As the engine returns it."""
    event_type: str
    message: str | None


class StoredModel(NamedTuple):
    """A row of `ml_models`."""

    id: int
    sensor_id: int
    model_name: str
    model_type: str
    version: str | None
    is_active: int
    metadata: str | None
    trained_at: str


class SchemaColumn(NamedTuple):
    """A column of the database."""

    table_name: str
    column_name: str
    column_type: str


class SchemaObject(NamedTuple):
    """An index, view, trigger or procedure of the database."""

    object_type: str
    object_name: str
    definition: str | None


class DeviceKey(NamedTuple):
    """The key of a single device."""

    api_key_hash: str
    device_uuid: str
    expires_at: int | None
    """Epoch seconds."""


class ListedSensor(NamedTuple):
    """A device with one of its active sensors; the sensor columns are null if it has none."""

    device_uuid: str
    device: str
    sensor_uuid: str | None
    sensor: str | None
    sensor_type: str | None
    unit: str | None
    sensor_id: int | None


class ForecastSensor(NamedTuple):
    """An active sensor that is due for a forecast."""

    id: int
    device_id: int
    name: str
    type: str
    unit: str
    device: str
    """The device's name."""


class InstalledSensor(NamedTuple):
    """A device, deleted or not, with one of its sensors; null if it has none."""

    device_id: int
    device_uuid: str
    device: str
    device_type: str | None
    status: str
    sensor_id: int | None
    sensor_uuid: str | None
    sensor_type: str | None
    sensor: str | None
    unit: str | None
    is_active: int | None


class Migration(NamedTuple):
    """A schema script that was applied."""

    name: str
    checksum: str


class Progress(NamedTuple):
    """The last record of a partition whose readings are stored."""

    partition_number: int
    topic_id: str | None
    last_offset: int


class RuleVersion(NamedTuple):
    """The time from which a version of the rules applies."""

    applies_from: int
    version: str


class SensorName(NamedTuple):
    """The names of a sensor and its device, for texts."""

    sensor_id: int
    name: str
    type: str
    unit: str
    device_id: int
    device: str


class NewestEvent(NamedTuple):
    """The highest id in `ml_events`; 0 if there is none."""

    id: int


class NewestReading(NamedTuple):
    """One of a sensor's newest readings."""

    sensor_id: int
    id: int
    ts: int
    """Event time, else arrival time; epoch microseconds UTC."""
    seq: int
    value: float


class DatabaseClock(NamedTuple):
    """The database's clock."""

    now_ms: int


class PredictionId(NamedTuple):
    """A row of `predictions`."""

    id: int


class ModelPrediction(NamedTuple):
    """The prediction of a model for one time."""

    model_name: str
    window_points: int | None
    value: float
    confidence: float
    predicted_at: int


class EarlierReading(NamedTuple):
    """A stored reading of a sensor."""

    seq: int | None
    value: float
    ts: int
    """Event time, epoch microseconds UTC."""
    received_at: int
    """Epoch microseconds UTC."""


class RulesOfVersion(NamedTuple):
    """A version of the rules, and a time from which it applied."""

    applies_from: int
    rules: str


class SensorModel(NamedTuple):
    """An active sensor and its active model; the model columns are null if it has none."""

    id: int
    device_id: int
    name: str
    type: str
    unit: str
    device: str
    model_id: int | None
    model_type: str | None
    metadata: str | None


class DeviceSensor(NamedTuple):
    """A device with one of its active sensors, which is null if it has none."""

    device_id: int
    sensor_uuid: str | None
    sensor_id: int | None


class TiedEvent(NamedTuple):
    """An event that began when another ended, or ended when it began."""

    event_key: str
    event_code: str
    is_before: int


ARRIVALS_BETWEEN = Query(
    "arrivals_between",
    Arrival,
    ("device_id", "sensor_id", "dated_from", "dated_before", "received_until", "most"),
)
"""Newest first. If `sensor_id` is null, for all sensors of the device."""
COUNT_ROWS = Query("count_rows", RowCounts)
DETAILS_OF_EVENTS = Query("details_of_events", EventDetails, ("event_ids",))
"""In order of time. `event_ids` is a JSON array."""
DEVICES_OF_SENSORS = Query("devices_of_sensors", SensorDevice, ("sensor_ids",))
"""`sensor_ids` is a JSON array. Unknown and inactive sensors have no row."""
EVENT_BY_KEY = Query("event_by_key", StoredEventRow, ("first_key", "key_beyond"))
"""A few events whose keys are in between, newest first."""
EVENT_IDS = Query("event_ids", EventId, ("event_id", "first_key", "key_beyond"))
"""A few events with this id, or with keys in between."""
EVENT_IDS_OF_INCIDENT = Query("event_ids_of_incident", EventId, ("incident_key", "most"))
"""Newest first."""
EVENTS_BETWEEN = Query("events_between", StoredEventRow, ("begin", "end"))
"""Events with a key in [begin, end), which are text; in order of time."""
FIND_SENSORS = Query("find_sensors", FoundSensor, ("device", "sensor", "sensor_id"))
"""By the names of device and sensor, or any if null. A sensor may also have the id instead."""
HAS_MIGRATIONS = Query("has_migrations", Present)
HAS_READINGS = Query("has_readings", Present)
LATEST_EVENTS = Query("latest_events", LatestEvent)
LIST_ALL_MODELS = Query("list_all_models", StoredModel)
LIST_COLUMNS = Query("list_columns", SchemaColumn)
LIST_DEVICE_KEYS = Query("list_device_keys", DeviceKey)
LIST_DEVICES = Query("list_devices", ListedSensor, ("name",))
"""All devices if `name` is null."""
LIST_DUE_SENSORS = Query("list_due_sensors", ForecastSensor)
"""Sensors with readings since their last forecast, grouped by type."""
LIST_INCIDENTS = Query("list_incidents", ListedIncident, ("begin", "most"))
"""The incidents that are open, of any age, and those with an event since `begin`, which is text.
Active ones first, then acknowledged ones, each by level, then those that have ended; newest first.
"""
LIST_INSTALLATION = Query("list_installation", InstalledSensor)
LIST_MIGRATIONS = Query("list_migrations", Migration)
LIST_OBJECTS = Query("list_objects", SchemaObject)
LIST_PROGRESS = Query("list_progress", Progress, ("topic",))
LIST_RULE_VERSIONS = Query("list_rule_versions", RuleVersion)
LIST_SENSOR_NAMES = Query("list_sensor_names", SensorName)
NEWEST_EVENT = Query("newest_event", NewestEvent)
NEWEST_READINGS = Query("newest_readings", NewestReading, ("sensor_ids", "most"))
"""`sensor_ids` is a JSON array. At most `most` readings of each sensor, in no particular order,
plus at most `most` readings without event time, which have seq -1."""
NOW_MS = Query("now_ms", DatabaseClock)
PICK_EVENTS = Query(
    "pick_events",
    EventId,
    ("device_ids", "sensor_ids", "begin", "end", "statuses", "event_types", "event_code", "most"),
)
"""Newest first, in [begin, end), which are text. `device_ids`, `sensor_ids`, `statuses` and
`event_types` are JSON arrays; what is null does not restrict, except for `statuses`."""
PREDICTION_AT = Query(
    "prediction_at", PredictionId, ("sensor_id", "model_id", "predicted_at", "horizon", "window")
)
"""`predicted_at` is text, `horizon` is in minutes, `window` a number of readings."""
PREDICTIONS_FOR = Query("predictions_for", ModelPrediction, ("sensor_id", "target"))
READINGS_BEFORE = Query("readings_before", EarlierReading, ("sensor_id", "until", "most"))
"""The newest readings with an event time before `until`, newest first."""
ROLLUPS_OF_BUCKETS = Query("rollups_of_buckets", RollupOfBucket, ("rows",))
RULES_OF_VERSION = Query("rules_of_version", RulesOfVersion, ("version",))
SENSOR_WITH_MODEL = Query("sensor_with_model", SensorModel, ("sensor_id",))
SENSORS_OF_DEVICE = Query("sensors_of_device", DeviceSensor, ("device_uuid",))
"""No rows if there is no such device."""
TIES_OF_EVENT = Query("ties_of_event", TiedEvent, ("event_key",))
USER_NAMED = Query("user_named", UserId, ("username",))

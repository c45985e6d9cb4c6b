"""What the rows of the flow's predictions say: method, risk and text, by the same assessment and in
the same words as all other forecasts.

The old back end and the app show the prediction of a sensor with the newest `predicted_at`, whoever
wrote it. The flow writes one every minute, so its rows soon stand in front of the batch runner's.
Without a risk and a text they would hide those of a complete row. Keeping the flow's rows out of
`predictions` instead would leave an installation that runs no batch without predictions.

`is_anomaly` is 0, as in the rows of the prediction service: neither judges single readings, and the
events ANOMALY_DETECTED and TRANSIENT_ANOMALY report those.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from contract.columns import Floats, Ints, Texts
from contract.predictions import HORIZON_MS
from ml.predict.assessment import assess
from ml.predict.forecast import MEAN, SLOPE
from ml.predict.forecast_rows import explanation
from ml.predict.outlook import Outlook
from rules.threshold import Threshold
from rules.words import Names
from sinks.decimals import rounded
from sql.statements import ForecastSensor

_HORIZON_MINUTES = HORIZON_MS // 60_000


class Told(NamedTuple):
    """The texts of P predictions."""

    engine: Texts
    risk_level: Texts
    severity: Texts
    explanation: Texts


def told(  # noqa: PLR0917 - columns
    model_id: Ints,
    sensor_id: Ints,
    device_id: Ints,
    predicted_at: Ints,
    newest: Floats,
    value: Floats,
    confidence: Floats,
    window: Ints,
    trend: Ints,
    slope: Floats,
    thresholds: Callable[[int], Sequence[Threshold]],
    names: Names,
) -> Told:
    """The texts of P predictions, from columns of (P,). `newest` is the value of the newest reading
    used, `slope` is in units per minute; `thresholds` returns those of a sensor.
    """
    rows = []
    for model, sensor, device, at, last, predicted, sure, count, turn, steep in zip(
        *(
            column.tolist()
            for column in (
                model_id, sensor_id, device_id, predicted_at, newest, rounded(value), confidence,
                window, trend, slope,
            )
        ),
        strict=True,
    ):  # fmt: skip
        named = names.of(sensor, device)
        outlook = Outlook(
            sensor=ForecastSensor(sensor, device, named.name, named.type, named.unit, named.device),
            predicted_at=at,
            newest=last,
            horizon_minutes=_HORIZON_MINUTES,
            value=predicted,
            confidence=sure,
            trend=turn,
            slope=steep,
            window=count,
            engine=SLOPE if model else MEAN,
            judged=False,
            anomaly=None,
        )
        found = assess(named.type, predicted, thresholds(sensor), anomalous=False)
        text = explanation(names.language, outlook, found)
        rows.append((outlook.engine, found.risk_level, found.severity, text))
    return Told(*np.array(rows, object).reshape(-1, len(Told._fields)).T)

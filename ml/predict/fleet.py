"""The forecasts of many sensors of one type at once: lines, anomalies, models."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from ml.predict.forecast import LINE, TOO_FEW, Forecasts, forecast
from ml.predict.forecast_rows import ModelRow
from ml.predict.forest import Anomalies, anomalies
from ml.predict.outlook import Anomaly, Outlook
from ml.predict.residuals import Residuals, residuals
from ml.predict.series import Series
from rules.line import NAME, TYPE, VERSION, LineModel, encode, moment
from sinks.times import text_of
from sql.statements import ForecastSensor

HORIZON_MINUTES = 10


def outlooks(
    sensors: Sequence[ForecastSensor], readings: Series
) -> Iterator[tuple[Outlook, ModelRow, int]]:
    """For each sensor that has readings: its outlook, its model, and the id of the newest reading's
    row. Row s of `readings` belongs to sensor s.
    """
    forecasts = forecast(readings, HORIZON_MINUTES)
    residual = residuals(readings)
    worst = anomalies(residual)
    for row in np.flatnonzero(readings.count).tolist():
        last = int(readings.last[row])
        outlook = Outlook(
            sensor=sensors[row],
            predicted_at=int(readings.ts[row, last]),
            newest=float(readings.value[row, last]),
            horizon_minutes=HORIZON_MINUTES,
            value=float(forecasts.value[row]),
            confidence=float(forecasts.confidence[row]),
            trend=int(forecasts.trend[row]),
            slope=float(forecasts.lines.slope[row]),
            window=int(forecasts.window[row]),
            engine=LINE if forecasts.straight[row] else TOO_FEW,
            judged=True,
            anomaly=_anomaly(readings, residual, worst, row),
        )
        model = _model(readings, forecasts, residual, row)
        yield outlook, model, int(readings.newest_id[row])


def _anomaly(readings: Series, residual: Residuals, worst: Anomalies, row: int) -> Anomaly | None:
    column = int(worst.column[row])
    if column < 0:
        return None
    value = float(readings.value[row, column])
    off_line, jump = np.abs(residual.feature[row, column]).tolist()
    jumped = jump > off_line
    return Anomaly(
        at=int(readings.ts[row, column]),
        value=value,
        jumped=jumped,
        usual=float(readings.value[row, column - 1] if jumped else residual.expected[row, column]),
        scale=float(residual.scale[row, int(jumped)]),
        score=float(worst.score[row]),
    )


def _model(readings: Series, forecasts: Forecasts, residual: Residuals, row: int) -> ModelRow:
    first, last = int(readings.ts[row, 0]), int(readings.ts[row, readings.last[row]])
    lines = forecasts.lines
    judged = bool(residual.newest[row].any())
    model = LineModel(
        slope_per_minute=float(lines.slope[row]),
        intercept=float(lines.intercept[row]),
        residual_scale=float(residual.scale[row, 0] if judged else lines.scatter[row]),
        r2=float(lines.r2[row]),
        points=int(readings.count[row]),
        trained_from=moment(first),
        trained_to=moment(last),
    )
    return ModelRow(
        name=NAME,
        type=TYPE,
        version=VERSION,
        trained_at=text_of(last),
        accuracy=round(model.r2, 4),
        metadata=msgspec.Raw(encode(model)),
        refresh=True,
    )

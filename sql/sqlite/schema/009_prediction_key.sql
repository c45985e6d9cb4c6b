-- Two predictions are the same one where model, sensor, predicted_at, horizon and window are the
-- same: one for the next half hour does not replace one for the next five minutes. The key of
-- before is dropped with the first prediction that this version writes: an older program needs it
-- until then.
-- superseded: ux_predictions_event
CREATE UNIQUE INDEX ux_predictions_key
ON predictions (model_id, sensor_id, event_predicted_at, horizon_minutes, window_points)
WHERE event_predicted_at IS NOT NULL;

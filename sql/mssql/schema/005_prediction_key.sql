-- Two predictions are the same one where model, sensor, predicted_at, horizon and window are the
-- same: one for the next half hour does not replace one for the next five minutes. The new index is
-- built before the old one goes, so that no moment is without a key.
-- superseded: ux_predictions_event
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.predictions') AND name LIKE N'ux[_]predictions[_]key%'
)
CREATE UNIQUE INDEX ux_predictions_key
ON dbo.predictions (model_id, sensor_id, event_predicted_at, horizon_minutes, window_points)
WHERE event_predicted_at IS NOT NULL;
GO
IF EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.predictions') AND name LIKE N'ux[_]predictions[_]event%'
)
DROP INDEX ux_predictions_event ON dbo.predictions;
GO

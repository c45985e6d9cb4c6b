-- 1 where there is any reading, else 0.
SELECT EXISTS(SELECT 1 FROM sensor_readings);

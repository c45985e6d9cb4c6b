SELECT EXISTS(SELECT 1 FROM sensor_readings) AS present;

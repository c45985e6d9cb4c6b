-- How long a sensor or a device may send nothing before it is reported, in seconds; 0: never.
ALTER TABLE sensors ADD COLUMN no_data_after_seconds INTEGER;
ALTER TABLE devices ADD COLUMN no_data_after_seconds INTEGER;

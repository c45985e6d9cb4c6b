SELECT
    c.TABLE_NAME,
    c.COLUMN_NAME,
    CASE
        WHEN c.DATA_TYPE IN ('varchar', 'nvarchar') AND c.CHARACTER_MAXIMUM_LENGTH = -1
            THEN CONCAT(c.DATA_TYPE, '(max)')
        WHEN c.CHARACTER_MAXIMUM_LENGTH IS NOT NULL
            THEN CONCAT(c.DATA_TYPE, '(', c.CHARACTER_MAXIMUM_LENGTH, ')')
        WHEN c.DATA_TYPE IN ('decimal', 'numeric')
            THEN CONCAT(c.DATA_TYPE, '(', c.NUMERIC_PRECISION, ',', c.NUMERIC_SCALE, ')')
        WHEN c.DATA_TYPE = 'datetime2' THEN CONCAT(c.DATA_TYPE, '(', c.DATETIME_PRECISION, ')')
        ELSE c.DATA_TYPE
    END AS column_type
FROM INFORMATION_SCHEMA.COLUMNS AS c
WHERE c.TABLE_SCHEMA = 'dbo';

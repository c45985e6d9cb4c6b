DECLARE @ahead bigint = ?, @version varchar(64) = ?, @rules nvarchar(max) = ?;
DECLARE @last bigint = (SELECT MAX(v.applies_from) FROM dbo.rule_versions AS v);
DECLARE @then bigint
= DATEDIFF_BIG(MILLISECOND, '1970-01-01T00:00:00', SYSUTCDATETIME()) + @ahead;
INSERT INTO dbo.rule_versions (applies_from, version, rules)
SELECT
    CASE
        WHEN @last IS NULL THEN 0
        WHEN @last >= @then THEN @last + 1
        ELSE @then
    END,
    @version,
    @rules
WHERE NOT EXISTS (
    SELECT 1
    FROM (
        SELECT TOP (1) v.version FROM dbo.rule_versions AS v ORDER BY v.applies_from DESC, v.id DESC
    ) AS newest
    WHERE newest.version = @version
);

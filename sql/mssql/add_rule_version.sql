DECLARE @applies_from bigint = ?, @version varchar(64) = ?, @rules nvarchar(max) = ?;
INSERT INTO dbo.rule_versions (applies_from, version, rules)
SELECT @applies_from, @version, @rules
WHERE NOT EXISTS (
    SELECT 1
    FROM (
        SELECT TOP (1) v.version FROM dbo.rule_versions AS v ORDER BY v.applies_from DESC, v.id DESC
    ) AS newest
    WHERE newest.version = @version
);

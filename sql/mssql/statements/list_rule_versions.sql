SELECT applies_from, version FROM dbo.rule_versions ORDER BY applies_from, id;

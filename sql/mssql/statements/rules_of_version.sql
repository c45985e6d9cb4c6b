SELECT applies_from, rules FROM dbo.rule_versions WHERE version = ? ORDER BY applies_from, id;

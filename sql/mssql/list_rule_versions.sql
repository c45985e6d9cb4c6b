SELECT id, applies_from, version, rules FROM dbo.rule_versions ORDER BY applies_from, id;

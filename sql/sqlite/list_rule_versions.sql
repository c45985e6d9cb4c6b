SELECT id, applies_from, version, rules FROM rule_versions ORDER BY applies_from, id;

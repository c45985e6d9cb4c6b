SELECT applies_from, version FROM rule_versions ORDER BY applies_from, id;

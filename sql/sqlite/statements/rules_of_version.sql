SELECT applies_from, rules FROM rule_versions WHERE version = ?1 ORDER BY applies_from, id;

-- ?1: version. Rules that came back have a row for each time.
SELECT applies_from, rules FROM rule_versions WHERE version = ?1 ORDER BY applies_from, id;

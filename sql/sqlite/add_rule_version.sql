-- ?1 applies_from, ?2 version, ?3 rules (JSON). Nothing is added while the newest has that version.
INSERT INTO rule_versions (applies_from, version, rules)
SELECT ?1, ?2, ?3
WHERE ?2 IS NOT (
    SELECT v.version FROM rule_versions AS v ORDER BY v.applies_from DESC, v.id DESC LIMIT 1
);

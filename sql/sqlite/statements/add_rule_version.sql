-- Uses the database's clock. The first version applies from the beginning, a later one after all
-- others. Adds nothing if the newest version is the same.
INSERT INTO rule_versions (applies_from, version, rules)
SELECT
    coalesce(
        (
            SELECT
                max(
                    max(v.applies_from) + 1,
                    cast(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) + ?1
                )
            FROM rule_versions AS v
        ),
        0
    ),
    ?2,
    ?3
WHERE ?2 IS NOT (
    SELECT v.version FROM rule_versions AS v ORDER BY v.applies_from DESC, v.id DESC LIMIT 1
);

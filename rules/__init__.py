"""Rules: the conditions that raise a level.

Each kind of rule is one module: its rows, its bounds as columns, its judge, its event code, its
event texts in each language, and how it is explained. `tables.KINDS` is the only list of kinds.
`tables` reads rows into rules, `columns` puts rules into arrays, and `history` records which rules
apply from which time.
"""

"""Rules: what asks for a level.

A kind of rule is one module: the rows it is made of, its bounds as columns, its judge, the code of
its events, what they say in each language, and how it is explained. `tables.KINDS` lists the kinds;
nobody else knows which there are. `tables` reads rows into rules, `columns` puts rules into arrays,
and `history` keeps which rules applied from which time on.
"""

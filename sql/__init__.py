"""All statements and schema scripts, as .sql files, and the connection that runs them.

`python -m sql` brings the schema of the configured database up to date.
"""

"""Alembic's scripts: each brings a database's tables from one schema to the next.

A script's `revision` is the number of the schema that it makes, and its `down_revision` that of the
one before, None in the first. It is never changed once it was released, and knows nothing of the
tables as the code has them today. Views are no part of it.
"""

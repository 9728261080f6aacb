"""Types of columns that the products do not share; bridge/storage/sql/schema.py has them, too."""

import sqlalchemy as sa

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""Counts rows. SQLite counts a column of its own INTEGER only; PostgreSQL's ends at 2**31."""

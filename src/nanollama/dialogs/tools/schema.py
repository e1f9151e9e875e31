"""Has a database the table and the columns that a config names? Names are compared to the letter."""

from __future__ import annotations

from collections.abc import Sequence

from nanollama.dialogs.tools.config import DatabaseConfig
from nanollama.errors import UserError


def check_schema(
    database: str, tables: Sequence[str], columns: Sequence[str], config: DatabaseConfig
) -> None:
    """See that there is what the config names.

    Args:
        database: how to call the database in messages.
        tables: the tables it has.
        columns: the columns of the config's table; none if there is no such table.
        config: the names that are needed.

    Raises:
        UserError: naming what is missing, and what there is instead.
    """
    if not columns:
        there = f"its tables are {', '.join(tables)}" if tables else "it has no tables"
        raise UserError(f"The database '{database}' has no table '{config.table}'; {there}.")
    for name in (config.key, *config.attributes):
        if name not in columns:
            table, there = f"The table '{config.table}' of '{database}'", ", ".join(columns)
            raise UserError(f"{table} has no column '{name}'; it has {there}.")

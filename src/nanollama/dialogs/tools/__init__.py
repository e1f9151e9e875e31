"""Tools a model can call, and the sandbox around them."""

from __future__ import annotations

from nanollama.dialogs.tools.calculator import CalculatorTool
from nanollama.dialogs.tools.config import CalculatorConfig, DatabaseConfig, DatabaseUrl, Limits
from nanollama.dialogs.tools.protocol import Reply, Tool, extract_request
from nanollama.dialogs.tools.toolbox import Toolbox
from nanollama.errors import MissingExtraError

__all__ = [
    "CalculatorConfig",
    "CalculatorTool",
    "DatabaseConfig",
    "DatabaseUrl",
    "Limits",
    "Reply",
    "Tool",
    "Toolbox",
    "build_tool",
    "extract_request",
]


def build_tool(config: DatabaseConfig) -> Tool:
    """Open the database of a config.

    Raises:
        UserError: it cannot be reached, or has not the table and columns of the config.
        MissingExtraError: a ``url`` is asked for and SQLAlchemy or its driver is not installed.
    """
    if config.url is None:
        from nanollama.dialogs.tools.database import DatabaseTool

        return DatabaseTool(config)
    try:
        from nanollama.dialogs.tools.sqlalchemy_database import SqlAlchemyDatabaseTool
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "sql") from None
    return SqlAlchemyDatabaseTool(config)

"""What SQL says in one way to SQLite and in another to PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, Table, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

Insert = sqlite.Insert | postgresql.Insert


def _insert(dialect: str, table: Table) -> Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@cache
def _upsert_into(dialect: str, table: Table) -> Insert:
    statement = _insert(dialect, table)
    updates = {column.name: statement.excluded[column.name] for column in table.columns}
    keys = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_=updates)


@cache
def _insert_new_into(dialect: str, table: Table) -> Insert:
    return _insert(dialect, table).on_conflict_do_nothing()


def upsert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Write whole rows over those of the same key."""
    connection.execute(_upsert_into(connection.dialect.name, table), rows)


def insert_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Write the rows whose keys are not there yet."""
    if rows:
        connection.execute(_insert_new_into(connection.dialect.name, table), rows)


def insert_many(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """The same of rows by the million, of all columns: as the driver takes them."""
    if rows:
        statement = _insert_new_into(connection.dialect.name, table)
        said = str(statement.compile(dialect=connection.dialect))
        connection.exec_driver_sql(said, list(rows))


class _Each(FunctionElement[str]):
    """The texts of a JSON list, a row each."""

    inherit_cache = True


class _Member(FunctionElement[str]):
    """A member of a JSON object, as JSON's text."""

    type = String()
    inherit_cache = True


class _Utc(FunctionElement[str]):
    """Seconds since 1970 as date and time of day, to the second."""

    type = String()
    inherit_cache = True


@compiles(_Each, "sqlite")
def _each_sqlite(element: _Each, compiler: SQLCompiler, **how: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **how)})"


@compiles(_Each, "postgresql")
def _each_postgresql(element: _Each, compiler: SQLCompiler, **how: Any) -> str:
    return f"json_array_elements_text(CAST({compiler.process(element.clauses, **how)} AS JSON))"


@compiles(_Member, "sqlite")
def _member_sqlite(element: _Member, compiler: SQLCompiler, **how: Any) -> str:
    document, key = (compiler.process(clause, **how) for clause in element.clauses)
    return f"json_extract({document}, '$.' || {key})"


@compiles(_Member, "postgresql")
def _member_postgresql(element: _Member, compiler: SQLCompiler, **how: Any) -> str:
    document, key = (compiler.process(clause, **how) for clause in element.clauses)
    return f"({document} ->> {key})"


@compiles(_Utc, "sqlite")
def _utc_sqlite(element: _Utc, compiler: SQLCompiler, **how: Any) -> str:
    return f"datetime({compiler.process(element.clauses, **how)}, 'unixepoch')"


@compiles(_Utc, "postgresql")
def _utc_postgresql(element: _Utc, compiler: SQLCompiler, **how: Any) -> str:
    seconds = compiler.process(element.clauses, **how)
    at = f"to_timestamp(round(CAST({seconds} AS numeric), 3)) AT TIME ZONE 'UTC'"  # as SQLite does
    return f"to_char({at}, 'YYYY-MM-DD HH24:MI:SS')"


def among(column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """Whether a column is one of so many values that they could not all be parameters."""
    listed = _Each(literal(json.dumps(list(values)))).table_valued("value")
    return column.in_(select(listed.c.value))


def member(document: ColumnElement[Any], key: str) -> ColumnElement[str]:
    """A member of a JSON column's object, which the database cuts out."""
    return _Member(document, literal(key))


def utc(seconds: ColumnElement[Any]) -> ColumnElement[str]:
    """Seconds since 1970 as a person reads them."""
    return _Utc(seconds)

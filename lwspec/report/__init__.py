"""The paper from the records: query, statistics, tables, figures, macros. Nothing is made up."""

"""Store and query in one DuckDB file: all of the store that speaks DuckDB."""

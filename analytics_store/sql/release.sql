-- DuckDB cuts the free end off its file at the checkpoint after the one that freed it, and only if something changed.
CREATE OR REPLACE TABLE nothing AS SELECT 1;

DROP TABLE nothing;

CHECKPOINT;

-- Writes both big tables anew in the order of time, so that a range of days lies together again.
CREATE OR REPLACE TABLE hits AS SELECT * FROM hits ORDER BY site_uuid, ts;

CREATE OR REPLACE TABLE sessions AS SELECT * FROM sessions ORDER BY site_uuid, first_ts;

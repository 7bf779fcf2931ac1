-- Writes everything to the attached file, in the order of time so that a range of days lies together again.
INSERT INTO compacted.hits SELECT * FROM store.hits ORDER BY site_uuid, ts;

INSERT INTO compacted.sessions SELECT * FROM store.sessions ORDER BY site_uuid, first_ts;

INSERT INTO compacted.whole SELECT * FROM store.whole ORDER BY name, ts;

INSERT INTO compacted.quarantine SELECT * FROM store.quarantine;

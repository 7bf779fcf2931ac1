-- Copies everything to the attached file, in the order of time, so that the rows of a range of days are adjacent again.
INSERT INTO compacted.hits BY NAME SELECT * FROM store.hits ORDER BY site_uuid, ts;

INSERT INTO compacted.sessions BY NAME SELECT * FROM store.sessions ORDER BY site_uuid, first_ts;

INSERT INTO compacted.whole BY NAME SELECT * FROM store.whole ORDER BY name, ts;

INSERT INTO compacted.quarantine BY NAME SELECT * FROM store.quarantine;

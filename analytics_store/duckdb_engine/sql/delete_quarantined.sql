-- Deletes rows in quarantine by the numbers that quarantined.sql gives them.
DELETE FROM quarantine
WHERE quarantine_id(name, row_text, reason, inserted_at) IN (SELECT unnest($ids::VARCHAR[]));

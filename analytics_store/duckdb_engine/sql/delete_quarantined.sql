-- Deletes rows in quarantine by the numbers that quarantined.sql gives them.
DELETE FROM quarantine
WHERE left(md5(concat_ws(chr(31), name, row_text, reason, inserted_at::VARCHAR)), 12) IN (SELECT unnest($ids::VARCHAR[]));

-- Adds rows that are stored as they came (one list for each column).
INSERT INTO whole
SELECT
    unnest($name::VARCHAR[]),
    unnest($site_uuid::VARCHAR[]),
    unnest($ts::TIMESTAMP[]),
    unnest($event::VARCHAR[]),
    unnest($inserted_at::TIMESTAMP[]);

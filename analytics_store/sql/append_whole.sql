-- Adds rows that are kept as they came ($name: one list per column).
INSERT INTO whole
SELECT
    unnest($name::VARCHAR[]),
    unnest($site_uuid::VARCHAR[]),
    unnest($ts::TIMESTAMP[]),
    unnest($event::VARCHAR[]),
    $now::TIMESTAMP;

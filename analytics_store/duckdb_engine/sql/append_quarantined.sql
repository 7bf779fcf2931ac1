-- Adds rows to the quarantine with their reasons (one list for each column).
INSERT INTO quarantine
SELECT
    unnest($name::VARCHAR[]),
    unnest($row::VARCHAR[]),
    unnest($reason::VARCHAR[]),
    unnest($inserted_at::TIMESTAMP[]);

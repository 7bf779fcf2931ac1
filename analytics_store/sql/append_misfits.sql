-- Sets rows aside with the reason ($name: one list per column).
INSERT INTO quarantine
SELECT
    unnest($name::VARCHAR[]),
    unnest($row::VARCHAR[]),
    unnest($reason::VARCHAR[]),
    $now::TIMESTAMP;

-- Sessions by the value of their first hit in {column}, which the pipe names.
SELECT {column}, count(*) AS visits
FROM wanted_sessions
WHERE {column} <> ''  -- if leaves_out_empty
GROUP BY {column}
ORDER BY visits DESC, {column}
LIMIT $limit OFFSET $skip

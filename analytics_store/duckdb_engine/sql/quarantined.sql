-- Lists the rows in quarantine in the order of their arrival. A number derived from a row stays the same after a compaction.
SELECT
    left(md5(concat_ws(chr(31), name, row_text, reason, inserted_at::VARCHAR)), 12) AS id,
    strftime(inserted_at, '%Y-%m-%dT%H:%M:%S.%gZ') AS arrived,
    name,
    reason,
    row_text
FROM quarantine
ORDER BY inserted_at, id

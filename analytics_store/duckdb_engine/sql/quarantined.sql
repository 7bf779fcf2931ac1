-- Lists the rows in quarantine in the order of their arrival.
SELECT
    quarantine_id(name, row_text, reason, inserted_at) AS id,
    strftime(inserted_at, '%Y-%m-%dT%H:%M:%S.%gZ') AS arrived,
    name,
    reason,
    row_text
FROM quarantine
ORDER BY inserted_at, id

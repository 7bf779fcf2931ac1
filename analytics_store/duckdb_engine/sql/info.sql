-- Counts the content of the store.
SELECT
    (SELECT count(*) FROM hits) AS hits,
    (SELECT count(*) FROM sessions) AS sessions,
    (SELECT count(DISTINCT site_uuid) FROM sessions) AS sites,
    (SELECT strftime(min(first_ts), '%Y-%m-%dT%H:%M:%S.%gZ') FROM sessions) AS first_hit,
    (SELECT strftime(max(last_ts), '%Y-%m-%dT%H:%M:%S.%gZ') FROM sessions) AS last_hit,
    (SELECT count(*) FROM whole) AS rows_kept_whole,
    (SELECT count(*) FROM quarantine) AS rows_in_quarantine

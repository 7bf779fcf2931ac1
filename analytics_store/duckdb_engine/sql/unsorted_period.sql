-- Finds the longest period with hits that ended by $last and is not sorted, or of which $least more hits arrived afterwards
-- than were sorted. Periods of several days are left out if they have more than $most hits.
WITH days AS (
    SELECT first_ts::DATE AS day, sum(pageviews) AS hits FROM sessions GROUP BY day
),
-- Periods begin at a multiple of their length since 1970.
periods AS (
    SELECT
        days,
        DATE '1970-01-01' + ((day - DATE '1970-01-01') // days * days)::INTEGER AS first_day,
        sum(hits) AS hits
    FROM days, (SELECT unnest($lengths::INTEGER[]) AS days)
    GROUP BY ALL
)
SELECT first_day, days
FROM periods
WHERE first_day + days <= $last::DATE + 1 AND (days = 1 OR hits <= $most)
  AND NOT EXISTS (
    FROM sorted_periods AS done
    WHERE done.first_day <= periods.first_day
      AND done.first_day + done.days >= periods.first_day + periods.days
      AND late_hits <= done.hits + $least
  )
ORDER BY days DESC, first_day DESC
LIMIT 1

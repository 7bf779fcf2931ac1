-- Finds the longest period that ended by $last and is not sorted, or of which as many hits arrived afterwards as before.
-- Periods of several days are as long as the hits of the last 30 days permit.
WITH lengths AS (
    SELECT days
    FROM (SELECT unnest($lengths::INTEGER[]) AS days)
    WHERE days = 1 OR days <= $most * 30 / (
        SELECT sum(pageviews) FROM sessions WHERE first_ts >= $last::TIMESTAMP - INTERVAL 29 DAY
    )
),
-- Periods begin at a multiple of their length since 1970.
numbered AS (
    SELECT days, unnest(range(
        (SELECT min(first_ts)::DATE - DATE '1970-01-01' FROM sessions) // days,
        ($last::DATE + 1 - DATE '1970-01-01') // days
    )) AS number
    FROM lengths
),
periods AS (
    SELECT days, DATE '1970-01-01' + (number * days)::INTEGER AS first_day FROM numbered
)
SELECT first_day, days
FROM periods
WHERE NOT EXISTS (
    FROM sorted_periods AS done
    WHERE done.first_day <= periods.first_day
      AND done.first_day + done.days >= periods.first_day + periods.days
      AND late_hits <= hits + $least
)
ORDER BY days DESC, first_day DESC
LIMIT 1

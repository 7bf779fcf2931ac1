-- Adds to the number of hits that arrived after their period was sorted (one list for each column).
UPDATE sorted_periods SET late_hits = late_hits + late.hits
FROM (
    SELECT first_day, days, sum(late.hits) AS hits
    FROM sorted_periods, (SELECT unnest($days::DATE[]) AS day, unnest($counts::INTEGER[]) AS hits) AS late
    WHERE late.day >= first_day AND late.day < first_day + days
    GROUP BY first_day, days
) AS late
WHERE sorted_periods.first_day = late.first_day AND sorted_periods.days = late.days

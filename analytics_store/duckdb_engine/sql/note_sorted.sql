-- Replaces the periods within a period by it. Hits beyond those that were sorted arrived meanwhile.
DELETE FROM sorted_periods WHERE first_day >= $first_day AND first_day + days <= $end;

INSERT INTO sorted_periods
SELECT $first_day, $days, $hits, count(*) - $hits FROM hits WHERE ts >= $first_day AND ts < $end

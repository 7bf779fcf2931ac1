-- Replaces the periods within a period by it.
DELETE FROM sorted_periods WHERE first_day >= $first_day AND first_day + days <= $end;

INSERT INTO sorted_periods VALUES ($first_day, $days, $hits, 0)

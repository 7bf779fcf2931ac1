-- Deletes the rows of Ghost's automations that are not the newest version of their row.
DELETE FROM whole WHERE rowid IN (
    SELECT row_no FROM automations WHERE row_no NOT IN (SELECT row_no FROM newest)
)

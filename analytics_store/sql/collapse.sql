-- Deletes what is not the newest version of a row of Ghost's automations.
DELETE FROM whole WHERE rowid IN (
    SELECT row_no FROM automations WHERE row_no NOT IN (SELECT row_no FROM newest)
)

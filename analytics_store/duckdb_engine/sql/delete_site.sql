-- Deletes all rows of a site, and rows in quarantine that name it. $site is in lower case.
DELETE FROM hits WHERE lower(site_uuid) = $site;

DELETE FROM sessions WHERE lower(site_uuid) = $site;

DELETE FROM page_days WHERE lower(site_uuid) = $site;

DELETE FROM settled_days WHERE lower(site_uuid) = $site;

DELETE FROM whole WHERE lower(site_uuid) = $site;

DELETE FROM quarantine WHERE contains(lower(row_text), $site);

-- Generate the hits of blogs: sessions of 1 to 20 hits, 500 pages with a long tail. The macro site_of names the site of a
-- session, and lies_by_site tells whether rows of a time lie by site as in a sorted period, or in the order of time.
CREATE OR REPLACE TEMP TABLE visits AS
SELECT
    i AS session_no,
    site_of(i) AS site_uuid,
    sha256(i::VARCHAR) AS session_id,
    $start::TIMESTAMP + to_milliseconds(($span * 1000.0 * (i + random()) / $sessions)::BIGINT) AS began,
    least(20, 1 + floor(20 * pow(random(), 3)))::INT AS hits,
    (50 * pow(random(), 2))::INT AS place,
    (300 * pow(random(), 2))::INT AS agent,
    (200 * pow(random(), 3))::INT AS referrer,
    (12 * pow(random(), 6))::INT AS utm,
    random() AS member
FROM range($first, $last) t(i);

INSERT INTO hits BY NAME
WITH exploded AS (
    SELECT *, unnest(range(hits)) AS nth, (500 * pow(random(), 3))::INT AS page, random() AS noise FROM visits
)
SELECT
    site_uuid,
    began + to_milliseconds((nth * 40000 + noise * 39000)::BIGINT) AS ts,
    session_no,
    uuid() AS event_key,
    '' AS event_name,
    '1' AS version,
    if(referrer < 60, '', 'source-' || referrer || '.example') AS source,
    ts - INTERVAL 5 MILLISECOND AS received_at,
    ts + INTERVAL 30 MILLISECOND AS inserted_at,
    if(member < 0.1, md5((session_no % 3000)::VARCHAR), 'undefined') AS member_uuid,
    CASE WHEN member < 0.03 THEN 'paid' WHEN member < 0.1 THEN 'free' ELSE 'undefined' END AS member_status,
    if(page = 0, 'undefined', md5(page::VARCHAR)::UUID::VARCHAR) AS post_uuid,
    if(page % 10 = 0, 'page', 'post') AS post_type,
    if(noise < 0.002, 'gift-' || (page % 7), '') AS gift_link,
    'en-US' AS locale,
    'C' || place AS location,
    if(page = 0, '/', '/a-post-with-a-long-slug-number-' || page || '/') AS pathname,
    'https://blog.example' || pathname AS href,
    ['desktop', 'mobile-ios', 'mobile-android', 'bot'][1 + agent % 4] AS device,
    ['macos', 'ios', 'android', 'windows'][1 + agent % 4] AS os,
    ['chrome', 'safari', 'firefox'][1 + agent % 3] AS browser,
    'Mozilla/5.0 (an ordinary user agent of an ordinary length; rv:' || agent || ') Firefox/' || agent AS user_agent,
    if(utm = 0, '', 'source' || utm) AS utm_source,
    if(utm = 0, '', 'medium' || utm % 4) AS utm_medium,
    if(utm = 0, '', 'campaign' || utm) AS utm_campaign,
    '' AS utm_term,
    '' AS utm_content,
    '' AS meta,
    '"parsedReferrer":{"source":null,"medium":null,"url":"'
    || if(referrer < 60, '', 'https://source-' || referrer || '.example/a/path') || '"}' AS rest
FROM exploded
ORDER BY if(lies_by_site(ts), $start, ts), if(lies_by_site(ts), site_uuid, ''), ts;

INSERT INTO sessions BY NAME
SELECT
    session_no,
    md5(session_no::VARCHAR)::UUID AS session_key,
    any_value(hits.site_uuid) AS site_uuid,
    any_value(session_id) AS session_id,
    min(ts) AS first_ts,
    max(ts) AS last_ts,
    count(*) AS pageviews,
    arg_min(source, ts) AS source,
    arg_min(device, ts) AS device,
    arg_min(utm_source, ts) AS utm_source,
    arg_min(utm_medium, ts) AS utm_medium,
    arg_min(utm_campaign, ts) AS utm_campaign,
    '' AS utm_term,
    '' AS utm_content,
    bit_or(status_bit(member_status)) AS statuses,
    any_value(location) AS location,
    any_value(os) AS os,
    any_value(browser) AS browser
FROM hits JOIN visits USING (session_no)
WHERE ts >= (SELECT min(began) FROM visits)
GROUP BY session_no
ORDER BY if(lies_by_site(first_ts), $start, first_ts), if(lies_by_site(first_ts), any_value(hits.site_uuid), ''), first_ts

-- Rollups that stay exact: counts that add up, sets of sessions and persons that merge, and in the daily one a row for
-- each session, so that a person's rows can be deleted and sessions counted without a state. Every target keeps its own
-- dedupe window, so that a retried insert repairs a view that failed and doubles none that did not.
CREATE TABLE IF NOT EXISTS analytics.events_hourly
(
    project LowCardinality(String),
    environment LowCardinality(String),
    hour DateTime('UTC'),
    event_name LowCardinality(String),
    event_count SimpleAggregateFunction(sum, UInt64),
    persons AggregateFunction(uniqExact, String),
    sessions AggregateFunction(uniqExact, String)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (project, environment, event_name, hour)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1,
    cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0,
    default_compression_codec = 'ZSTD(1)';

CREATE MATERIALIZED VIEW IF NOT EXISTS analytics.events_hourly_feed TO analytics.events_hourly AS
SELECT
    project,
    environment,
    toStartOfHour(event_timestamp) AS hour,
    event_name,
    count() AS event_count,
    uniqExactState(if(user_id = '', anonymous_id, user_id)) AS persons,
    uniqExactState(session_id) AS sessions
FROM analytics.events
GROUP BY project, environment, hour, event_name;

CREATE TABLE IF NOT EXISTS analytics.events_daily
(
    project LowCardinality(String),
    environment LowCardinality(String),
    date Date,
    user_id String,
    event_name LowCardinality(String),
    session_id String,
    event_count UInt64
)
ENGINE = SummingMergeTree(event_count)
PARTITION BY toYYYYMM(date)
ORDER BY (project, environment, date, user_id, event_name, session_id)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1,
    cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0,
    default_compression_codec = 'ZSTD(1)';

CREATE MATERIALIZED VIEW IF NOT EXISTS analytics.events_daily_feed TO analytics.events_daily AS
SELECT
    project,
    environment,
    date,
    user_id,
    event_name,
    session_id,
    count() AS event_count
FROM analytics.events
GROUP BY project, environment, date, user_id, event_name, session_id;

-- The plan's name, with plain columns: its own query on raw and this view agree row by row.
CREATE VIEW IF NOT EXISTS analytics.daily_user_events AS
SELECT
    project,
    environment,
    date,
    user_id,
    event_name,
    sum(events_daily.event_count) AS event_count,
    uniqExact(session_id) AS session_count
FROM analytics.events_daily
GROUP BY project, environment, date, user_id, event_name;

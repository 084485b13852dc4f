-- Rollups that stay exact: counts that add up, sets of sessions and persons that merge. Every target keeps its own
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
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

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
    event_count SimpleAggregateFunction(sum, UInt64),
    sessions AggregateFunction(uniqExact, String)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(date)
ORDER BY (project, environment, date, user_id, event_name)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS analytics.events_daily_feed TO analytics.events_daily AS
SELECT
    project,
    environment,
    date,
    user_id,
    event_name,
    count() AS event_count,
    uniqExactState(session_id) AS sessions
FROM analytics.events
GROUP BY project, environment, date, user_id, event_name;

-- The plan's name, with plain columns: its own query on raw and this view agree row by row.
CREATE VIEW IF NOT EXISTS analytics.daily_user_events AS
SELECT
    project,
    environment,
    date,
    user_id,
    event_name,
    sum(event_count) AS event_count,
    uniqExactMerge(sessions) AS session_count
FROM analytics.events_daily
GROUP BY project, environment, date, user_id, event_name;

-- Who an anonymous id belongs to: every event that carries both ids is a link; the first one counts.
CREATE TABLE IF NOT EXISTS analytics.identities
(
    project LowCardinality(String),
    environment LowCardinality(String),
    anonymous_id String,
    user_id String,
    first_linked_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    links SimpleAggregateFunction(sum, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (project, environment, anonymous_id, user_id)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1,
    cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0,
    default_compression_codec = 'ZSTD(1)';

CREATE MATERIALIZED VIEW IF NOT EXISTS analytics.identities_feed TO analytics.identities AS
SELECT
    project,
    environment,
    anonymous_id,
    user_id,
    min(event_timestamp) AS first_linked_at,
    count() AS links
FROM analytics.events
WHERE user_id != '' AND anonymous_id != ''
GROUP BY project, environment, anonymous_id, user_id;

-- The plan's table, mended: tenancy and client ids added, event and day first in the order, dedupe by insert token,
-- months by the corrected time. Nullable columns keep the plan's meaning of IS NULL.
CREATE TABLE IF NOT EXISTS analytics.events
(
    chunk_id UUID,
    project LowCardinality(String),
    environment LowCardinality(String),
    event_id UUID,
    event_name LowCardinality(String),
    event_timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    date Date DEFAULT toDate(event_timestamp),
    user_id String,
    anonymous_id String,
    session_id String,
    identity LowCardinality(String),
    sequence UInt64 CODEC(T64, ZSTD(1)),
    event_value Nullable(String),
    event_metadata JSON(max_dynamic_paths = 256),
    message_content Nullable(String),
    message_length Nullable(UInt32),
    thread_id Nullable(String),
    client_timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    server_timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    loaded_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),
    ip_address IPv6,
    user_agent LowCardinality(String),
    is_bot Bool,
    page_url String,
    page_path String,
    page_title String,
    referrer String,
    locale LowCardinality(String),
    viewport_width UInt16,
    viewport_height UInt16,
    consent LowCardinality(String),
    source LowCardinality(String),
    masked Array(LowCardinality(String)),
    masking_version LowCardinality(String),
    schema_version UInt8 DEFAULT 1,
    expires_at Nullable(DateTime('UTC')),
    message_expires_at Nullable(DateTime('UTC')),
    INDEX by_user user_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_anonymous anonymous_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_thread thread_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_id event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_arrival server_timestamp TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(date)
ORDER BY (project, event_name, date, user_id, event_timestamp)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1,
    cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0,
    default_compression_codec = 'ZSTD(1)', min_bytes_for_wide_part = 33554432;

CREATE TABLE IF NOT EXISTS analytics.receipts
(
    chunk_id UUID,
    project LowCardinality(String),
    environment LowCardinality(String),
    event_id UUID,
    vendor LowCardinality(String),
    status LowCardinality(String),
    at DateTime64(3, 'UTC'),
    server_timestamp DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (project, event_id, vendor, status)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1,
    cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0,
    default_compression_codec = 'ZSTD(1)';

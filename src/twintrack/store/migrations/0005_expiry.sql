-- What is deleted leaves the disk within a minute, not eight: the parts that hold it are not kept beside their
-- successors. That is safe because merged and changed parts are synced now before they take a place.
ALTER TABLE analytics.events ADD INDEX IF NOT EXISTS by_expiry expires_at TYPE minmax GRANULARITY 1;

ALTER TABLE analytics.events MODIFY SETTING old_parts_lifetime = 30, min_rows_to_fsync_after_merge = 1;

ALTER TABLE analytics.receipts MODIFY SETTING old_parts_lifetime = 30, min_rows_to_fsync_after_merge = 1;

ALTER TABLE analytics.events_hourly MODIFY SETTING old_parts_lifetime = 30, min_rows_to_fsync_after_merge = 1;

ALTER TABLE analytics.events_daily MODIFY SETTING old_parts_lifetime = 30, min_rows_to_fsync_after_merge = 1;

ALTER TABLE analytics.identities MODIFY SETTING old_parts_lifetime = 30, min_rows_to_fsync_after_merge = 1;

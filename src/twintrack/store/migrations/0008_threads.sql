-- Most events stand in no thread, and those that do have few names, by which rows are ordered: where none of a granule
-- does, it is not read. Months of before get the index too, beside loading.
ALTER TABLE analytics.events ADD INDEX IF NOT EXISTS in_thread thread_id TYPE minmax GRANULARITY 1;

ALTER TABLE analytics.events MATERIALIZE INDEX in_thread;

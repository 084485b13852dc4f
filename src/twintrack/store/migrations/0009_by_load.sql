-- The tail asks for what was loaded a moment ago, whenever its events were sent: what waited for the store through an
-- outage came hours before. Parts from before have no such index until they are merged, and are read in that one column.
ALTER TABLE analytics.events ADD INDEX IF NOT EXISTS by_load loaded_at TYPE minmax GRANULARITY 1;

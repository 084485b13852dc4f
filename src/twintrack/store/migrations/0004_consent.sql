-- When consent was given, by the client's clock as corrected, and to which vendors it was not.
ALTER TABLE analytics.events ADD COLUMN IF NOT EXISTS consent_at Nullable(DateTime64(3, 'UTC'));

ALTER TABLE analytics.events ADD COLUMN IF NOT EXISTS consent_denied Array(LowCardinality(String));

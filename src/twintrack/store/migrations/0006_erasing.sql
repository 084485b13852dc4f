-- Whom an erasure is about, while it runs: a statement that deletes rows is kept beside them as a file, so it names this
-- table and no person. In memory, so that no byte of it reaches the disk.
CREATE TABLE IF NOT EXISTS analytics.erasing
(
    kind LowCardinality(String),
    environment String,
    id String
)
ENGINE = Memory;

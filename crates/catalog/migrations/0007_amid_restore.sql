-- Snapshots of a deployment in which a restore had staged collections by then: nothing can be folded from them.
ALTER TABLE snapshots ADD COLUMN amid_restore BIGINT NOT NULL DEFAULT 0;

-- The id that a replica set was given when it was initiated: one set may be registered under several names.
ALTER TABLE deployments ADD COLUMN replica_set_id TEXT;
CREATE INDEX deployments_by_replica_set ON deployments (replica_set_id) WHERE replica_set_id IS NOT NULL;
ALTER TABLE restore_jobs ADD COLUMN target_replica_set_id TEXT;
CREATE UNIQUE INDEX one_active_restore_per_replica_set ON restore_jobs (target_replica_set_id)
    WHERE delivery <> 'download' AND state IN ('queued', 'running', 'cancelling', 'cutOver');

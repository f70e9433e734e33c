-- When snapshots of a deployment are taken by themselves; no row: never.
CREATE TABLE schedules (
    deployment_id    TEXT   NOT NULL PRIMARY KEY REFERENCES deployments (id),
    reference_hour   BIGINT NOT NULL,
    reference_minute BIGINT NOT NULL,
    -- The items of its policy, as JSON of the model.
    items            TEXT   NOT NULL,
    -- All times up to this one were seen to.
    handled_until    BIGINT NOT NULL,
    -- Another number after each change, so that two of them cannot be made of the same one.
    revision         BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL
);

-- Of snapshots that a schedule took: the frequency that decided how long they are kept, the items that wanted them, and the
-- time at which they were due. Bases of timelines are of no schedule and have none of these.
ALTER TABLE snapshots ADD COLUMN frequency TEXT;
ALTER TABLE snapshots ADD COLUMN policy_items TEXT;
ALTER TABLE snapshots ADD COLUMN due_at BIGINT;
CREATE UNIQUE INDEX one_snapshot_per_due_time ON snapshots (deployment_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX failed_snapshots_by_expiry ON snapshots (expires_at) WHERE state = 'failed' AND due_at IS NOT NULL;

-- Buckets that snapshots of a project are exported to. Which place the name of one means is in the configuration of the
-- servers. A deleted one stays, for the exports that name it.
CREATE TABLE export_buckets (
    id          TEXT   NOT NULL PRIMARY KEY,
    project_id  TEXT   NOT NULL REFERENCES projects (id),
    place       TEXT   NOT NULL,
    iam_role_id TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    deleted_at  BIGINT
);
CREATE INDEX export_buckets_by_project ON export_buckets (project_id, created_at);

CREATE TABLE export_jobs (
    id            TEXT   NOT NULL PRIMARY KEY,
    project_id    TEXT   NOT NULL REFERENCES projects (id),
    deployment_id TEXT   NOT NULL REFERENCES deployments (id),
    snapshot_id   TEXT   NOT NULL REFERENCES snapshots (id),
    bucket_id     TEXT   NOT NULL REFERENCES export_buckets (id),
    state         TEXT   NOT NULL,
    -- What the names of all its files begin with: no two exports have one.
    prefix        TEXT   NOT NULL UNIQUE,
    custom_data   TEXT   NOT NULL,
    -- Whether a schedule asked for it.
    scheduled     BIGINT NOT NULL,
    error         TEXT,
    created_at    BIGINT NOT NULL,
    finished_at   BIGINT
);
CREATE UNIQUE INDEX one_active_export_per_snapshot ON export_jobs (snapshot_id)
    WHERE state IN ('queued', 'inProgress', 'cancelling');
CREATE INDEX export_jobs_by_deployment ON export_jobs (deployment_id, created_at);
CREATE INDEX active_exports_by_bucket ON export_jobs (bucket_id) WHERE state IN ('queued', 'inProgress', 'cancelling');
-- What a schedule exports it does once.
CREATE UNIQUE INDEX one_scheduled_export_per_snapshot ON export_jobs (snapshot_id) WHERE scheduled = 1;

-- Which snapshots of a schedule are exported by themselves; no bucket: nobody has said. Those that were completed before the
-- time are not.
ALTER TABLE schedules ADD COLUMN export_bucket_id TEXT;
ALTER TABLE schedules ADD COLUMN export_frequency TEXT;
ALTER TABLE schedules ADD COLUMN auto_export BIGINT NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN export_from BIGINT NOT NULL DEFAULT 0;

-- One text for SQLite and PostgreSQL: TEXT and BIGINT only; times are milliseconds since the epoch; JSON is TEXT;
-- booleans are 0 and 1; ids are 24 hexadecimal digits. Never edit a migration that was released: add one.

CREATE TABLE settings (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE projects (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE deployments (
    id               TEXT   NOT NULL PRIMARY KEY,
    project_id       TEXT   NOT NULL REFERENCES projects (id),
    name             TEXT   NOT NULL,
    kind             TEXT   NOT NULL,
    -- Sealed with the master key; empty once removed.
    uri_sealed       TEXT   NOT NULL,
    options          TEXT   NOT NULL,
    replica_set_name TEXT,
    mongodb_version  TEXT,
    details          TEXT   NOT NULL,
    checked_at       BIGINT,
    created_at       BIGINT NOT NULL,
    removed_at       BIGINT,
    -- A removed deployment keeps its name, so that adding it again finds its snapshots.
    UNIQUE (project_id, name)
);

CREATE TABLE credentials (
    id          TEXT   NOT NULL PRIMARY KEY,
    kind        TEXT   NOT NULL,
    public_name TEXT   NOT NULL,
    -- API key: HA1 sealed with the master key. Service account: SHA-256 of the secret.
    secret      TEXT   NOT NULL,
    description TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    UNIQUE (kind, public_name)
);

CREATE TABLE grants (
    credential_id TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    -- Empty: the whole organization. (NULL would not be unique.)
    project_id    TEXT NOT NULL,
    role          TEXT NOT NULL,
    PRIMARY KEY (credential_id, project_id, role)
);
CREATE INDEX grants_by_project ON grants (project_id);

CREATE TABLE tokens (
    sha256        TEXT   NOT NULL PRIMARY KEY,
    credential_id TEXT   NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    expires_at    BIGINT NOT NULL
);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);
CREATE INDEX tokens_by_credential ON tokens (credential_id);

CREATE TABLE snapshots (
    id                TEXT   NOT NULL PRIMARY KEY,
    project_id        TEXT   NOT NULL REFERENCES projects (id),
    deployment_id     TEXT   NOT NULL REFERENCES deployments (id),
    state             TEXT   NOT NULL,
    snapshot_type     TEXT   NOT NULL,
    description       TEXT,
    retention_days    BIGINT,
    requested_at      BIGINT NOT NULL,
    completed_at      BIGINT,
    expires_at        BIGINT,
    deleted_at        BIGINT,
    -- A cluster time does not fit one signed number after 2038.
    cluster_seconds   BIGINT,
    cluster_increment BIGINT,
    manifest          TEXT,
    mongod_version    TEXT,
    fcv               TEXT,
    replica_set_name  TEXT,
    collections       BIGINT NOT NULL,
    documents         BIGINT NOT NULL,
    logical_bytes     BIGINT NOT NULL,
    stored_bytes      BIGINT NOT NULL,
    added_bytes       BIGINT NOT NULL,
    error             TEXT,
    notes             TEXT   NOT NULL
);
CREATE UNIQUE INDEX one_unfinished_on_demand_snapshot ON snapshots (deployment_id)
    WHERE snapshot_type = 'onDemand' AND state IN ('queued', 'inProgress');
CREATE INDEX snapshots_by_deployment ON snapshots (deployment_id, requested_at);
CREATE INDEX snapshots_by_expiry ON snapshots (expires_at) WHERE state = 'completed';
CREATE INDEX snapshots_with_manifest ON snapshots (state) WHERE manifest IS NOT NULL;

CREATE TABLE restore_jobs (
    id                     TEXT   NOT NULL PRIMARY KEY,
    project_id             TEXT   NOT NULL REFERENCES projects (id),
    deployment_id          TEXT   NOT NULL REFERENCES deployments (id),
    -- Names never change, so they are copied here and reading a job is one statement on one table.
    deployment_name        TEXT   NOT NULL,
    snapshot_id            TEXT   NOT NULL REFERENCES snapshots (id),
    snapshot_completed_at  BIGINT NOT NULL,
    delivery               TEXT   NOT NULL,
    state                  TEXT   NOT NULL,
    target_project_id      TEXT   REFERENCES projects (id),
    target_deployment_id   TEXT   REFERENCES deployments (id),
    target_deployment_name TEXT,
    options                TEXT   NOT NULL,
    error                  TEXT,
    receipt                TEXT,
    archive                TEXT,
    url_token_sha256       TEXT,
    expires_at             BIGINT,
    downloaded             BIGINT NOT NULL,
    deliveries             BIGINT NOT NULL,
    created_at             BIGINT NOT NULL,
    finished_at            BIGINT
);
CREATE UNIQUE INDEX one_active_restore_per_target ON restore_jobs (target_deployment_id)
    WHERE delivery <> 'download' AND state IN ('queued', 'running', 'cancelling', 'cutOver');
CREATE UNIQUE INDEX one_active_download_per_snapshot ON restore_jobs (snapshot_id)
    WHERE delivery = 'download' AND state IN ('queued', 'running', 'ready');
CREATE INDEX restore_jobs_by_deployment ON restore_jobs (deployment_id, created_at);
CREATE INDEX restore_jobs_by_snapshot ON restore_jobs (snapshot_id);
CREATE INDEX restore_jobs_by_expiry ON restore_jobs (expires_at) WHERE state = 'ready';
CREATE INDEX active_downloads_by_project ON restore_jobs (project_id)
    WHERE delivery = 'download' AND state IN ('queued', 'running', 'ready');
CREATE INDEX restore_jobs_with_archive ON restore_jobs (state) WHERE archive IS NOT NULL;

CREATE TABLE jobs (
    id           TEXT   NOT NULL PRIMARY KEY,
    kind         TEXT   NOT NULL,
    -- The snapshot or the restore job.
    subject_id   TEXT   NOT NULL UNIQUE,
    work         TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    run_at       BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    lease_owner  TEXT,
    lease_until  BIGINT NOT NULL,
    lease_epoch  BIGINT NOT NULL,
    progress     TEXT,
    checkpoint   TEXT,
    error        TEXT,
    -- The collector's generation when this job last pinned something.
    pinned_in    BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    started_at   BIGINT,
    ended_at     BIGINT
);
CREATE INDEX unfinished_jobs ON jobs (created_at) WHERE state IN ('queued', 'running');

-- What jobs did to deployments and have to undo.
CREATE TABLE obligations (
    job_id        TEXT   NOT NULL REFERENCES jobs (id),
    deployment_id TEXT   NOT NULL REFERENCES deployments (id),
    kind          TEXT   NOT NULL,
    detail        TEXT   NOT NULL,
    recorded_at   BIGINT NOT NULL,
    PRIMARY KEY (job_id, deployment_id, kind)
);
CREATE INDEX obligations_by_deployment ON obligations (deployment_id);

-- Objects that are durable in the vault.
CREATE TABLE objects (
    name         TEXT   NOT NULL PRIMARY KEY,
    kind         TEXT   NOT NULL,
    stored_bytes BIGINT NOT NULL,
    -- live, marked, deleting
    state        TEXT   NOT NULL,
    -- The collector's generation at the mark.
    marked_in    BIGINT NOT NULL
);
CREATE INDEX objects_on_their_way_out ON objects (state) WHERE state <> 'live';

-- Objects that a job uploads or relies on; entered before, gone with the job.
CREATE TABLE job_objects (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    name   TEXT NOT NULL,
    PRIMARY KEY (job_id, name)
);
CREATE INDEX job_objects_by_name ON job_objects (name);

-- One row: the garbage collector's lease.
CREATE TABLE collector (
    id          BIGINT NOT NULL PRIMARY KEY,
    generation  BIGINT NOT NULL,
    lease_until BIGINT NOT NULL
);
INSERT INTO collector (id, generation, lease_until) VALUES (1, 0, 0);

CREATE TABLE audit (
    id      TEXT   NOT NULL PRIMARY KEY,
    at      BIGINT NOT NULL,
    who     TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    outcome TEXT   NOT NULL,
    detail  TEXT   NOT NULL
);
CREATE INDEX audit_by_time ON audit (at);

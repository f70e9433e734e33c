-- What the operator asks of continuous backup.
ALTER TABLE deployments ADD COLUMN pit_enabled BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN restore_window_days BIGINT NOT NULL DEFAULT 7;

-- The latest time that any collection of the snapshot is as of; not known of older snapshots.
ALTER TABLE snapshots ADD COLUMN last_as_of_seconds BIGINT;
ALTER TABLE snapshots ADD COLUMN last_as_of_increment BIGINT;

-- Who records which deployment: one lease for each.
CREATE TABLE captures (
    deployment_id TEXT   NOT NULL PRIMARY KEY REFERENCES deployments (id),
    lease_owner   TEXT,
    lease_until   BIGINT NOT NULL,
    lease_epoch   BIGINT NOT NULL,
    -- What its holder saw last: lag, the oplog's window, warnings, the last error.
    status        TEXT   NOT NULL,
    updated_at    BIGINT NOT NULL
);

CREATE TABLE timelines (
    id                  TEXT   NOT NULL PRIMARY KEY,
    project_id          TEXT   NOT NULL REFERENCES projects (id),
    deployment_id       TEXT   NOT NULL REFERENCES deployments (id),
    replica_set_id      TEXT,
    replica_set_name    TEXT   NOT NULL,
    -- The last entry before the first slice that is still there; moves on when slices are dropped from the front.
    start_seconds       BIGINT NOT NULL,
    start_increment     BIGINT NOT NULL,
    start_term          BIGINT NOT NULL,
    first_sequence      BIGINT NOT NULL,
    -- The last entry that was recorded, in the vault or not yet.
    end_seconds         BIGINT NOT NULL,
    end_increment       BIGINT NOT NULL,
    end_term            BIGINT NOT NULL,
    next_sequence       BIGINT NOT NULL,
    last_slice          TEXT,
    read_from_seconds   BIGINT NOT NULL,
    read_from_increment BIGINT NOT NULL,
    recorded_at         BIGINT NOT NULL,
    -- The last entry that is in the vault with all before it, and the number of the slice that is to follow there.
    durable_seconds     BIGINT NOT NULL,
    durable_increment   BIGINT NOT NULL,
    durable_term        BIGINT NOT NULL,
    durable_sequence    BIGINT NOT NULL,
    started_at          BIGINT NOT NULL,
    ended_at            BIGINT,
    end_reason          TEXT,
    end_detail          TEXT
);
CREATE UNIQUE INDEX one_open_timeline ON timelines (deployment_id) WHERE ended_at IS NULL;
CREATE INDEX timelines_by_deployment ON timelines (deployment_id, started_at);

CREATE TABLE slices (
    name                TEXT   NOT NULL PRIMARY KEY,
    timeline_id         TEXT   NOT NULL REFERENCES timelines (id),
    sequence            BIGINT NOT NULL,
    after_seconds       BIGINT NOT NULL,
    after_increment     BIGINT NOT NULL,
    after_term          BIGINT NOT NULL,
    first_seconds       BIGINT NOT NULL,
    first_increment     BIGINT NOT NULL,
    first_term          BIGINT NOT NULL,
    last_seconds        BIGINT NOT NULL,
    last_increment      BIGINT NOT NULL,
    last_term           BIGINT NOT NULL,
    read_from_seconds   BIGINT NOT NULL,
    read_from_increment BIGINT NOT NULL,
    entries             BIGINT NOT NULL,
    bytes               BIGINT NOT NULL,
    stored_bytes        BIGINT NOT NULL,
    -- spooled: on the disk of who recorded it; stored: in the vault
    state               TEXT   NOT NULL,
    created_at          BIGINT NOT NULL,
    UNIQUE (timeline_id, sequence)
);
CREATE INDEX slices_by_time ON slices (timeline_id, last_seconds, last_increment);
CREATE INDEX spooled_slices ON slices (timeline_id, sequence) WHERE state = 'spooled';

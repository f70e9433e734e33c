-- Which snapshots of a deployment are copied to other vaults, as JSON of the model.
ALTER TABLE schedules ADD COLUMN copy_settings TEXT NOT NULL DEFAULT '[]';

-- The vaults that are copied to, by the names of their regions, and who is at it.
CREATE TABLE copy_vaults (
    region      TEXT   NOT NULL PRIMARY KEY,
    -- What the place itself says to be, once something was put there.
    place       TEXT,
    generation  BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    -- Whether something may be in there that no copy needs any more, and from when on that is looked after.
    sweep_due   BIGINT NOT NULL,
    sweep_after BIGINT NOT NULL,
    -- What holds that up, as JSON.
    held        TEXT,
    -- When it was listed last.
    listed_at   BIGINT NOT NULL
);

CREATE TABLE snapshot_copies (
    snapshot_id  TEXT   NOT NULL REFERENCES snapshots (id),
    region       TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    -- The root of the snapshot's manifest: the snapshot forgets it when it is deleted.
    manifest     TEXT   NOT NULL,
    requested_at BIGINT NOT NULL,
    made_at      BIGINT,
    -- Why it could not be made so far, and from when on that is tried again.
    error        TEXT,
    try_after    BIGINT NOT NULL,
    PRIMARY KEY (snapshot_id, region)
);
CREATE INDEX snapshot_copies_by_region ON snapshot_copies (region, state, requested_at);

-- What is in these vaults.
CREATE TABLE copied_objects (
    region        TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    stored_bytes  BIGINT NOT NULL,
    -- held, found (seen there, not looked through), damaged, unreadable (a slice that cannot be read where it comes from), deleting.
    state         TEXT   NOT NULL,
    -- Of slices, as far as it is known.
    deployment_id TEXT,
    -- The last sweep in which a copy needed it.
    needed_in     BIGINT NOT NULL,
    -- The generation in which it was put or listed last.
    seen_in       BIGINT NOT NULL,
    PRIMARY KEY (region, name)
);
CREATE INDEX copied_objects_by_state ON copied_objects (region, state);

-- How far a deployment is compared with what is recorded of it: one lease for each, and the round that is under way.
CREATE TABLE live_checks (
    deployment_id  TEXT   NOT NULL PRIMARY KEY REFERENCES deployments (id),
    lease_owner    TEXT,
    lease_until    BIGINT NOT NULL,
    lease_epoch    BIGINT NOT NULL,
    round_began_at BIGINT NOT NULL,
    -- What is compared next: a collection, and maybe a key in it; none when the round is through.
    next_place     TEXT,
    -- What was compared in the round.
    documents      BIGINT NOT NULL,
    bytes          BIGINT NOT NULL,
    -- When the last round that went through did.
    completed_at   BIGINT
);

-- Collections that are not what is recorded of them, until a snapshot has read them anew.
CREATE TABLE defects (
    deployment_id   TEXT   NOT NULL REFERENCES deployments (id),
    collection_uuid TEXT   NOT NULL,
    namespace       TEXT   NOT NULL,
    found_seconds   BIGINT NOT NULL,
    found_increment BIGINT NOT NULL,
    found_at        BIGINT NOT NULL,
    what            TEXT   NOT NULL,
    PRIMARY KEY (deployment_id, collection_uuid)
);

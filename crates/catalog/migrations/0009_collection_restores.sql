-- As which resource of the API a restore was asked for: the two have lists of their own.
ALTER TABLE restore_jobs ADD COLUMN resource TEXT NOT NULL DEFAULT 'restoreJob';

-- What becomes of each collection of a collection restore job, as its worker tells.
CREATE TABLE restored_collections (
    restore_job_id   TEXT   NOT NULL REFERENCES restore_jobs (id),
    ordinal          BIGINT NOT NULL,
    source           TEXT   NOT NULL,
    target           TEXT   NOT NULL,
    -- The name that it gets, where the one that was asked for is taken.
    effective_target TEXT   NOT NULL,
    step             TEXT   NOT NULL,
    documents_total  BIGINT NOT NULL,
    documents_done   BIGINT NOT NULL,
    error            TEXT,
    PRIMARY KEY (restore_job_id, ordinal)
);

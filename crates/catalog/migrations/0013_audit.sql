-- Until now a line told of a change that was made by the API. From here on it is begun before the change, tells of those that
-- were refused as well, and of commands on the data directory; from where, and which answer was given.
ALTER TABLE audit ADD COLUMN project_id TEXT   NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN origin     TEXT   NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN operation  TEXT   NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN resource   TEXT   NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN status     BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN error_code TEXT   NOT NULL DEFAULT '';

CREATE INDEX audit_by_project ON audit (project_id, at);

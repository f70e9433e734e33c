-- The least that every deployment of a project is backed up. One that is released by whoever runs the server may be lifted, and
-- replaced by one that asks for less.
CREATE TABLE compliance_policies (
    project_id TEXT   NOT NULL PRIMARY KEY REFERENCES projects (id),
    policy     TEXT   NOT NULL,
    released   BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

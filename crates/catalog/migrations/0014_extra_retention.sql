-- By how much longer than their retention says snapshots are kept, as JSON of the model; and whether the paths of exported files
-- have the names of the organization and the project in place of their ids.
ALTER TABLE schedules ADD COLUMN extra_retention TEXT NOT NULL DEFAULT '[]';
ALTER TABLE schedules ADD COLUMN names_in_exports BIGINT NOT NULL DEFAULT 0;

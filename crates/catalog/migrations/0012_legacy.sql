-- Until now a link was good for one download within an hour. The flag that it was downloaded becomes the number of times.
ALTER TABLE restore_jobs RENAME COLUMN downloaded TO downloads;
ALTER TABLE restore_jobs ADD COLUMN downloads_max BIGINT NOT NULL DEFAULT 1;
ALTER TABLE restore_jobs ADD COLUMN link_hours BIGINT NOT NULL DEFAULT 1;

-- Whether somebody has said that the snapshot is not to be deleted, by a schedule, by its time or by anybody.
ALTER TABLE snapshots ADD COLUMN do_not_delete BIGINT NOT NULL DEFAULT 0;

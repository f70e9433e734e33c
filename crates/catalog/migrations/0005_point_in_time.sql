-- The point in time that a restore is to, as JSON of the model; none for restores of a snapshot as it is. The snapshot of
-- such a job is the one that the fold begins with.
ALTER TABLE restore_jobs ADD COLUMN point_in_time TEXT;

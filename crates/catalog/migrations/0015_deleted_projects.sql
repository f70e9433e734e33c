-- A deleted project keeps its row, for what tells of it; its name is free again.
ALTER TABLE projects ADD COLUMN deleted_at BIGINT;

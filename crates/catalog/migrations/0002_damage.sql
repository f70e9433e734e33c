-- Objects that were found damaged or missing in the vault: they count as not stored until they are stored anew.
ALTER TABLE objects ADD COLUMN damaged BIGINT NOT NULL DEFAULT 0;

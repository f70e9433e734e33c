-- From which addresses a credential may be used, as JSON of the model; from everywhere while nothing is in it.
ALTER TABLE credentials ADD COLUMN access_list TEXT NOT NULL DEFAULT '[]';

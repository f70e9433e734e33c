-- What a service account is called, beside its description; API keys have no name.
ALTER TABLE credentials ADD COLUMN name TEXT NOT NULL DEFAULT '';
-- Secrets of a service account, each with its hash and how long it works; its column `secret` is empty from now on.
ALTER TABLE credentials ADD COLUMN secrets TEXT NOT NULL DEFAULT '[]';
-- The first secret of an account has the id of the account.
UPDATE credentials
SET name = description,
    secrets = '[{"id":"' || id || '","sha256":"' || secret || '","createdAt":' || CAST(created_at AS TEXT) || '}]',
    secret = ''
WHERE kind = 'serviceAccount';
-- The secret that a token was made with, so that they end together.
ALTER TABLE tokens ADD COLUMN secret_id TEXT NOT NULL DEFAULT '';
UPDATE tokens SET secret_id = credential_id;

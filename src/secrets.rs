//! The master key as `api` sees it: something that seals and opens, and shows nothing.

use std::sync::Arc;

use api::{Secret, SecretError, SecretOpener};
use vault::MasterKey;

/// Seals and opens with the master key.
pub(crate) struct MasterKeySecrets(pub(crate) Arc<MasterKey>);

impl SecretOpener for MasterKeySecrets {
    fn seal(&self, purpose: &str, plain: &[u8]) -> Result<String, SecretError> {
        Ok(self.0.seal(purpose, plain))
    }

    fn open(&self, purpose: &str, sealed: &str) -> Result<Secret, SecretError> {
        let plain = self.0.open(purpose, sealed).map_err(|error| SecretError(error.to_string()))?;
        Ok(Secret::new(plain.as_slice()))
    }
}

//! New credentials: made here, shown once, kept sealed or hashed.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use catalog::{Grant, NewCredential, NewProof, NewSecret, Sealed};
use model::account::{SecretHash, SecretHours};

use super::{digest, sha256_hex};
use crate::state::{PURPOSE_HA1, Secret, SecretError, SecretOpener};

const PUBLIC_KEY_CHARACTERS: usize = 8;
/// 24 characters of 62: 142 bits, as long as the token in Atlas's download URLs.
const DOWNLOAD_TOKEN_CHARACTERS: usize = 24;
/// So many characters at the end of a client secret are kept, to tell one from the other; 39 stay unknown.
const ENDING_CHARACTERS: usize = 4;

/// A credential just made. The secret exists nowhere else in the clear: show it once.
#[derive(Debug)]
pub struct Issued {
    /// What goes into the catalog.
    pub row: NewCredential,
    /// The private key or the client secret.
    pub secret: Secret,
}

/// Makes an API key: a public key of 8 letters, a private key in the form of a UUID.
///
/// # Errors
/// When the master key cannot be used.
pub fn issue_api_key(
    secrets: &dyn SecretOpener,
    description: &str,
    grants: Vec<Grant>,
) -> Result<Issued, SecretError> {
    let public_key = letters(PUBLIC_KEY_CHARACTERS, b"abcdefghijklmnopqrstuvwxyz");
    let private_key = uuid();
    let ha1 = zeroize::Zeroizing::new(digest::ha1(&public_key, &private_key));
    let sealed = secrets.seal(PURPOSE_HA1, ha1.as_slice())?;
    let row = NewCredential {
        proof: NewProof::ApiKey(Sealed(sealed)),
        public_name: public_key,
        name: String::new(),
        description: description.to_owned(),
        grants,
    };
    Ok(Issued { row, secret: Secret::new(private_key) })
}

/// What a service account is, but for its secret.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// What it is called.
    pub name: String,
    /// What people say of it.
    pub description: String,
    /// Its roles.
    pub grants: Vec<Grant>,
    /// How long its first secret works; none for one that works until another one is made.
    pub hours: Option<SecretHours>,
}

/// Makes a service account: `mdb_sa_id_…` and `mdb_sa_sk_…`, as Atlas forms them.
pub fn issue_service_account(new: NewAccount) -> Issued {
    let (row, secret) = account_secret(new.hours);
    let row = NewCredential {
        proof: NewProof::ServiceAccount(row),
        public_name: format!("mdb_sa_id_{}", hex::encode(random::<12>())),
        name: new.name,
        description: new.description,
        grants: new.grants,
    };
    Issued { row, secret }
}

/// Draws a secret of a service account: what is kept of it, and the secret itself.
pub(crate) fn account_secret(hours: Option<SecretHours>) -> (NewSecret, Secret) {
    let secret = format!("mdb_sa_sk_{}", URL_SAFE_NO_PAD.encode(random::<32>()));
    let sha256 = SecretHash(sha256_hex(secret.as_bytes()));
    let ending = secret[secret.len() - ENDING_CHARACTERS..].to_owned();
    (NewSecret { sha256, ending, hours }, Secret::new(secret))
}

/// The secret part of a download URL.
pub fn download_token() -> String {
    letters(DOWNLOAD_TOKEN_CHARACTERS, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
}

/// An access token.
pub(super) fn access_token() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

fn uuid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// Characters of an alphabet, all equally likely: bytes past the last whole multiple are thrown away.
fn letters(count: usize, alphabet: &[u8]) -> String {
    let limit = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let fitting = random::<32>().into_iter().filter(|byte| usize::from(*byte) < limit);
        text.extend(
            fitting
                .take(count - text.len())
                .map(|byte| char::from(alphabet[usize::from(byte) % alphabet.len()])),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_the_forms_that_clients_expect() {
        let new =
            NewAccount { name: "x".to_owned(), description: String::new(), grants: vec![], hours: None };
        let account = issue_service_account(new);
        assert_eq!(account.row.public_name.len(), 34);
        assert!(account.secret.expose_text().is_some_and(|s| s.starts_with("mdb_sa_sk_")));
        assert!(!format!("{account:?}").contains("mdb_sa_sk_"), "a secret is printed");
        let uuid = uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        let token = download_token();
        assert!(token.len() == 24 && token.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(token, download_token());
    }
}

//! SCRAM-SHA-256 and SCRAM-SHA-1 (RFC 5802, RFC 7677): the client's half, without any network.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use crate::{Error, Result};

/// Fewer rounds are a downgrade attack (the RFC's floor).
const ROUNDS_MIN: u32 = 4096;
/// More rounds are an attack on our processor; servers use 10,000 to 15,000.
const ROUNDS_MAX: u32 = 2_000_000;

/// The hash, and how the password is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    Sha256,
    Sha1,
}

impl Mechanism {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha1 => "SCRAM-SHA-1",
        }
    }

    fn hash(self, data: &[u8]) -> digest::Digest {
        digest::digest(
            if self == Self::Sha256 { &digest::SHA256 } else { &digest::SHA1_FOR_LEGACY_USE_ONLY },
            data,
        )
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> hmac::Tag {
        let algorithm =
            if self == Self::Sha256 { hmac::HMAC_SHA256 } else { hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY };
        hmac::sign(&hmac::Key::new(algorithm, key), data)
    }

    /// The secret that goes into PBKDF2. SHA-1 takes MongoDB's old digest of name and password, SHA-256 the password
    /// as SASLprep leaves it.
    fn secret(self, user: &str, password: &str) -> Result<Zeroizing<String>> {
        match self {
            Self::Sha1 => {
                Ok(Zeroizing::new(hex::encode(Md5::digest(format!("{user}:mongo:{password}").as_bytes()))))
            }
            Self::Sha256 => stringprep::saslprep(password)
                .map(|prepared| Zeroizing::new(prepared.into_owned()))
                .map_err(|_| {
                    Error::Authentication("the password holds characters that SASLprep forbids".to_owned())
                }),
        }
    }

    fn salted(self, secret: &str, salt: &[u8], rounds: NonZeroU32) -> Zeroizing<Vec<u8>> {
        let (algorithm, bytes) = match self {
            Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, digest::SHA256_OUTPUT_LEN),
            Self::Sha1 => (pbkdf2::PBKDF2_HMAC_SHA1, digest::SHA1_OUTPUT_LEN),
        };
        let mut salted = Zeroizing::new(vec![0; bytes]);
        pbkdf2::derive(algorithm, rounds, salt, secret.as_bytes(), &mut salted);
        salted
    }
}

/// The client after its first message.
pub(super) struct Client<'a> {
    mechanism: Mechanism,
    user: &'a str,
    password: &'a str,
    nonce: String,
    first_bare: String,
}

/// The client's last message and what the server must answer to it.
pub(super) struct Final {
    pub(super) message: String,
    expected: String,
}

impl<'a> Client<'a> {
    /// `nonce` is fresh random text without a comma.
    pub(super) fn new(mechanism: Mechanism, user: &'a str, password: &'a str, nonce: String) -> Self {
        let first_bare = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
        Self { mechanism, user, password, nonce, first_bare }
    }

    pub(super) fn first_message(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// Answers the server's challenge.
    pub(super) fn answer(&self, server_first: &str) -> Result<Final> {
        let refuse =
            |what: &str| Error::Authentication(format!("the server's challenge is unacceptable: {what}"));
        let field = |name: &str| {
            server_first
                .split(',')
                .find_map(|part| part.strip_prefix(name))
                .ok_or_else(|| refuse("a field is missing"))
        };
        let nonce = field("r=")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(refuse("its nonce does not continue ours"));
        }
        let salt = BASE64_STANDARD.decode(field("s=")?).map_err(|_| refuse("its salt is not base64"))?;
        let rounds = field("i=")?.parse().map_err(|_| refuse("its count of rounds is not a number"))?;
        if !(ROUNDS_MIN..=ROUNDS_MAX).contains(&rounds) {
            return Err(refuse("its count of rounds is out of bounds"));
        }
        let rounds = NonZeroU32::new(rounds).ok_or_else(|| refuse("no rounds"))?;
        let secret = self.mechanism.secret(self.user, self.password)?;
        let salted = self.mechanism.salted(&secret, &salt, rounds);
        Ok(self.prove(&salted, server_first, nonce))
    }

    fn prove(&self, salted: &[u8], server_first: &str, nonce: &str) -> Final {
        let mechanism = self.mechanism;
        let without_proof = format!("c=biws,r={nonce}");
        let transcript = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = mechanism.hmac(salted, b"Client Key");
        let stored_key = mechanism.hash(client_key.as_ref());
        let signature = mechanism.hmac(stored_key.as_ref(), transcript.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = mechanism.hmac(salted, b"Server Key");
        let server_signature = mechanism.hmac(server_key.as_ref(), transcript.as_bytes());
        Final {
            message: format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)),
            expected: format!("v={}", BASE64_STANDARD.encode(server_signature)),
        }
    }
}

impl Final {
    /// Whether the server knows the password too; without this anybody could play the server.
    pub(super) fn verify(&self, server_final: &str) -> Result<()> {
        constant_time::verify_slices_are_equal(self.expected.as_bytes(), server_final.as_bytes()).map_err(
            |_| {
                Error::Authentication(
                    "the server could not prove that it knows the password: it may be an impostor".to_owned(),
                )
            },
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The example of RFC 7677 §3.
    #[test]
    fn sha_256_as_in_its_rfc() {
        let client = Client::new(Mechanism::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".to_owned());
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = client.answer(challenge).unwrap();
        assert_eq!(
            answer.message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        answer.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        assert!(answer.verify("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
    }

    /// MongoDB's own example of SCRAM-SHA-1 (drivers' authentication specification).
    #[test]
    fn sha_1_as_in_the_drivers_specification() {
        let client = Client::new(Mechanism::Sha1, "user", "pencil", "fyko+d2lbbFgONRv9qkxdawL".to_owned());
        let challenge =
            "r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,s=rQ9ZY3MntBeuP3E1TDVC4w==,i=10000";
        let answer = client.answer(challenge).unwrap();
        assert_eq!(
            answer.message,
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,p=MC2T8BvbmWRckDw8oWl5IVghwCY="
        );
        answer.verify("v=UMWeI25JD1yNYZRMpZ4VHvhZ9e0=").unwrap();
    }

    #[test]
    fn refuses_a_server_that_would_make_it_easy_or_endless() {
        let client = Client::new(Mechanism::Sha256, "user", "pencil", "abc".to_owned());
        for challenge in [
            "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            "r=abc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=xyzabc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=abcdef,s=%,i=4096",
            "r=abcdef,i=4096",
            "",
        ] {
            assert!(client.answer(challenge).is_err(), "{challenge}");
        }
    }

    #[test]
    fn names_and_passwords_are_prepared() {
        let client = Client::new(Mechanism::Sha256, "a=b,c", "x", "n".to_owned());
        assert_eq!(client.first_message(), "n,,n=a=3Db=2Cc,r=n");
        // RFC 4013: the soft hyphen maps to nothing, ROMAN NUMERAL NINE to IX.
        assert_eq!(*Mechanism::Sha256.secret("u", "I\u{ad}X").unwrap(), "IX");
        assert_eq!(*Mechanism::Sha256.secret("u", "\u{2168}").unwrap(), "IX");
        assert!(Mechanism::Sha256.secret("u", "\u{7}").is_err());
    }
}

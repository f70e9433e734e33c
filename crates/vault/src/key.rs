//! The master key: what only the operator holds.
//!
//! It wraps the key of the vault and seals small secrets for the catalog. It is stored in neither. Whoever loses
//! it loses the backups; whoever steals vault and catalog without it has nothing.

use std::{
    fmt, fs,
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    process::{Command, Stdio},
};

use aws_lc_rs::aead::Aad;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

use crate::{
    Error, Result,
    crypt::{KEY_BYTES, Key, SALT_BYTES, TAG_BYTES, aead, derive, fill_random, nonce, random},
};

const TEXT_PREFIX: &str = "ebbtide-master-key-v1:";
/// A key's text has 66 bytes; whatever is longer is something else.
const TEXT_BYTES_MAX: u64 = 256;
const INFO_SECRET: &[u8] = b"ebbtide v1 secret";
const INFO_FINGERPRINT: &[u8] = b"ebbtide v1 fingerprint";
const FINGERPRINT_BYTES: usize = 6;
/// First byte of a sealed secret.
const SECRET_VERSION: u8 = 1;
/// Bits of the mode that let others than the owner in.
const MODE_OTHERS: u32 = 0o077;

/// The master key.
#[derive(Clone)]
pub struct MasterKey(Key);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.fingerprint())
    }
}

impl MasterKey {
    /// A new random key.
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        fill_random(&mut key[..]);
        Self(key)
    }

    /// Reads the key from a file that only its owner can read.
    ///
    /// # Errors
    /// [`Error::MasterKey`] when the file is missing, others may read it, or it holds no key.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let refuse = |why: String| Error::MasterKey { from: path.display().to_string(), why };
        let file =
            fs::File::open(path).map_err(|e| refuse(format!("{e}; give the file with --master-key-file")))?;
        // The opened file is asked, not the path, so that a symlink is judged by what it leads to.
        let metadata = file.metadata().map_err(|e| refuse(e.to_string()))?;
        if !metadata.is_file() {
            return Err(refuse("it is not a regular file".to_owned()));
        }
        if metadata.mode() & MODE_OTHERS != 0 {
            let mode = metadata.mode() & 0o777;
            let mend = format!("chmod 600 '{}'", path.display());
            return Err(refuse(format!("its mode is {mode:04o}, so others may use it; run: {mend}")));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| refuse(e.to_string()))?;
        Self::from_text(&text).map_err(refuse)
    }

    /// Writes the key to a new file that only its owner can read. An existing file is left alone.
    ///
    /// # Errors
    /// [`Error::MasterKey`] when the file exists or cannot be written durably.
    pub fn create_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let refuse =
            |e: std::io::Error| Error::MasterKey { from: path.display().to_string(), why: e.to_string() };
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(refuse)?;
        file.write_all(self.to_text().as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(refuse)?;
        file.sync_all().map_err(refuse)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(refuse)
    }

    /// Takes the key from the standard output of a command, such as one that asks a password store.
    ///
    /// # Errors
    /// [`Error::MasterKey`] when the command fails or prints no key. What it printed is never shown.
    pub fn from_command(command: &[String]) -> Result<Self> {
        let refuse = |why: String| Error::MasterKey {
            from: format!("the command {:?}", command.first().map(String::as_str).unwrap_or_default()),
            why,
        };
        let (program, arguments) = command.split_first().ok_or_else(|| refuse("it is empty".to_owned()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| refuse(format!("it does not start: {e}")))?;
        let mut text = Zeroizing::new(String::new());
        let read = child
            .stdout
            .take()
            .map(|out| out.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text))
            .transpose()
            .map_err(|_| refuse("it printed something else than a key".to_owned()));
        let status = child.wait().map_err(|e| refuse(e.to_string()))?;
        read?;
        if !status.success() {
            return Err(refuse(format!("it failed: {status}")));
        }
        Self::from_text(&text).map_err(refuse)
    }

    /// Reads what [`MasterKey::to_text`] wrote.
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        let why = || format!("it holds no key; a key is one line that starts with {TEXT_PREFIX}");
        let encoded = text.trim().strip_prefix(TEXT_PREFIX).ok_or_else(why)?;
        let bytes = Zeroizing::new(BASE64.decode(encoded).map_err(|_| why())?);
        let key: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| why())?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// The key as one line of text, to be kept where backups are not.
    pub fn to_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(BASE64.encode(&self.0[..]));
        Zeroizing::new(format!("{TEXT_PREFIX}{}", encoded.as_str()))
    }

    /// Tells keys apart without telling anything about them: 12 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        hex::encode(&derive(&self.0[..], b"", INFO_FINGERPRINT)[..FINGERPRINT_BYTES])
    }

    /// Seals a small secret. It opens only with the same `purpose`.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> String {
        self.seal_salted(purpose, plain, &random())
    }

    /// Like [`MasterKey::seal`], with the randomness given.
    pub(crate) fn seal_salted(&self, purpose: &str, plain: &[u8], salt: &[u8; SALT_BYTES]) -> String {
        let mut sealed = Vec::with_capacity(1 + SALT_BYTES + plain.len() + TAG_BYTES);
        sealed.push(SECRET_VERSION);
        sealed.extend(salt);
        sealed.extend(plain);
        let key = aead(&derive(&self.0[..], salt, INFO_SECRET));
        // The key is used for this one message, so its nonce may be constant.
        let tag = key
            .seal_in_place_separate_tag(
                nonce(0),
                Aad::from(purpose.as_bytes()),
                &mut sealed[1 + SALT_BYTES..],
            )
            .expect("a secret is far below the limit of AES-GCM");
        sealed.extend(tag.as_ref());
        BASE64.encode(sealed)
    }

    /// Opens what [`MasterKey::seal`] sealed for the same purpose.
    ///
    /// # Errors
    /// [`Error::Sealed`] when it was sealed with another key, for another purpose, or changed.
    pub fn open(&self, purpose: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let refused = || Error::Sealed { purpose: purpose.to_owned(), fingerprint: self.fingerprint() };
        let bytes = BASE64.decode(sealed).map_err(|_| refused())?;
        let (&[version], rest) = bytes.split_first_chunk::<1>().ok_or_else(refused)?;
        if version != SECRET_VERSION {
            return Err(Error::NewerFormat {
                what: format!("the sealed {purpose}"),
                version: version.into(),
                known: SECRET_VERSION.into(),
            });
        }
        let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>().ok_or_else(refused)?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let key = aead(&derive(&self.0[..], salt, INFO_SECRET));
        let length = key
            .open_in_place(nonce(0), Aad::from(purpose.as_bytes()), &mut plain)
            .map_err(|_| refused())?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_must_be_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let key = MasterKey::generate();
        key.create_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::from_file(&path).unwrap().fingerprint(), key.fingerprint());
        assert!(key.create_file(&path).is_err(), "never overwritten");

        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for mode in [0o644, 0o640, 0o606, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            for path in [&path, &link] {
                let error = MasterKey::from_file(path).unwrap_err().to_string();
                assert!(error.contains("chmod 600"), "{error}");
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(MasterKey::from_file(&path).is_ok());
    }

    #[test]
    fn a_broken_key_file_is_refused_without_showing_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let texts = ["", "hunter2", "ebbtide-master-key-v1:aHVudGVyMg==", "ebbtide-master-key-v1:***"];
        for text in texts.into_iter().map(str::to_owned).chain(["x".repeat(10_000)]) {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = MasterKey::from_file(&path).unwrap_err().to_string();
            assert!(error.contains("one line that starts with"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("aHVu"));
        }
        assert!(MasterKey::from_file(directory.path().join("none")).is_err());
        assert!(MasterKey::from_file(directory.path()).is_err());
    }

    #[test]
    fn a_command_gives_the_key_or_a_reason() {
        let key = MasterKey::generate();
        let command = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let got = MasterKey::from_command(&command(&["echo", &key.to_text()])).unwrap();
        assert_eq!(got.fingerprint(), key.fingerprint());
        for words in [&["false"][..], &["echo", "hunter2"], &["/no/such/command"], &["yes"], &[]] {
            let error = MasterKey::from_command(&command(words)).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn secrets_open_for_their_purpose_only() {
        let key = MasterKey::generate();
        let sealed = key.seal("uri", b"mongodb://u:p@h");
        assert_eq!(key.open("uri", &sealed).unwrap().as_slice(), b"mongodb://u:p@h");
        assert_ne!(sealed, key.seal("uri", b"mongodb://u:p@h"));
        assert!(matches!(key.open("ha1", &sealed), Err(Error::Sealed { .. })));
        assert!(matches!(MasterKey::generate().open("uri", &sealed), Err(Error::Sealed { .. })));
        for broken in ["", "AQ==", "%%%", &sealed[4..], &sealed[..sealed.len() - 4]] {
            assert!(key.open("uri", broken).is_err(), "{broken}");
        }
        assert!(!format!("{key:?}").contains(&key.to_text()[22..]));
    }
}

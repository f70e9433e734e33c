//! Keys and seals: everything secret that happens to bytes.
//!
//! Each object has its own random salt and with it its own AES-256-GCM key, so a block's number can be its
//! nonce. The vault's id, the object's kind and name and the block's number are associated data: a block opens
//! only where it was meant to be.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf, rand,
};
use zeroize::Zeroizing;

use crate::{ObjectKind, ObjectName, VaultId};

/// Bytes of every key here.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of an object's salt.
pub(crate) const SALT_BYTES: usize = 32;
/// Bytes that a seal adds to a block.
pub(crate) const TAG_BYTES: usize = 16;

const NONCE_BYTES: usize = 12;
/// Vault id, kind, name, block number.
const AAD_BYTES: usize = 16 + 1 + 32 + 4;

const INFO_OBJECT: &[u8] = b"ebbtide v1 object";
const INFO_NAMES: &[u8] = b"ebbtide v1 names";
const INFO_BLOCKS: &[u8] = b"ebbtide v1 blocks";

/// A key that wipes itself and never shows itself.
pub(crate) type Key = Zeroizing<[u8; KEY_BYTES]>;

/// A salt of an object.
pub(crate) type Salt = [u8; SALT_BYTES];

/// Fills `bytes` from the operating system.
///
/// The generator of aws-lc aborts the process rather than give bad randomness, so a failure cannot be seen here.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the operating system gives random bytes");
}

/// A fresh random array.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// HKDF-SHA256 with one piece of context.
pub(crate) fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> Key {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key[..]))
        .expect("HKDF-SHA256 gives 32 bytes");
    key
}

/// An AES-256-GCM key ready to use.
pub(crate) fn aead(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).expect("AES-256 keys have 32 bytes"))
}

/// A number as a nonce: 96 bits, little endian.
pub(crate) fn nonce(number: u32) -> Nonce {
    let mut bytes = [0; NONCE_BYTES];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Where the salts of new objects come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Salts {
    /// The operating system.
    Random,
    /// A function of the object's name: only for golden files, which must come out the same every time.
    #[cfg(test)]
    OfName,
}

/// The keys of one vault.
pub(crate) struct Keys {
    id: VaultId,
    vault: Key,
    names: Key,
    blocks: Key,
    salts: Salts,
}

impl Keys {
    pub(crate) fn new(id: VaultId, vault: Key, salts: Salts) -> Self {
        let names = derive(&vault[..], b"", INFO_NAMES);
        let blocks = derive(&vault[..], b"", INFO_BLOCKS);
        Self { id, vault, names, blocks, salts }
    }

    pub(crate) const fn salts(&self) -> Salts {
        self.salts
    }

    pub(crate) const fn id(&self) -> VaultId {
        self.id
    }

    /// The vault key, to be wrapped again.
    pub(crate) const fn vault_key(&self) -> &Key {
        &self.vault
    }

    /// A salt for a new object.
    pub(crate) fn salt(&self, _name: &ObjectName) -> Salt {
        match self.salts {
            Salts::Random => random(),
            #[cfg(test)]
            Salts::OfName => *blake3::hash(_name.to_string().as_bytes()).as_bytes(),
        }
    }

    /// The name of an object that is one run of plain bytes, or a hash over the hashes of its blocks.
    pub(crate) fn name(&self, kind: ObjectKind, plain: &[&[u8]]) -> ObjectName {
        let mut hasher = blake3::Hasher::new_keyed(&self.names);
        hasher.update(&[kind.code()]);
        for part in plain {
            hasher.update(part);
        }
        ObjectName::new(kind, *hasher.finalize().as_bytes())
    }

    /// The hash of one plain block of a segment.
    pub(crate) fn block_hash(&self, plain: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.blocks, plain).as_bytes()
    }

    /// What seals and opens the blocks of one object.
    pub(crate) fn object(&self, name: &ObjectName, salt: &Salt) -> ObjectSeal {
        let key = derive(&self.vault[..], salt, INFO_OBJECT);
        let mut aad = [0; AAD_BYTES];
        aad[..16].copy_from_slice(&self.id.0);
        aad[16] = name.kind.code();
        aad[17..49].copy_from_slice(name.as_bytes());
        ObjectSeal { key: aead(&key), aad }
    }
}

/// Seals and opens the blocks of one object.
pub(crate) struct ObjectSeal {
    key: LessSafeKey,
    aad: [u8; AAD_BYTES],
}

impl ObjectSeal {
    fn aad(&self, block: u32) -> Aad<[u8; AAD_BYTES]> {
        let mut aad = self.aad;
        aad[49..].copy_from_slice(&block.to_le_bytes());
        Aad::from(aad)
    }

    /// Encrypts in place and gives the tag that goes behind.
    pub(crate) fn seal(&self, block: u32, in_out: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(block), self.aad(block), in_out)
            .expect("a block is far below the limit of AES-GCM");
        tag.as_ref().try_into().expect("AES-GCM tags have 16 bytes")
    }

    /// Decrypts a sealed block into `out`. False when it is not the one that was sealed here.
    #[must_use]
    pub(crate) fn open(&self, block: u32, sealed: &[u8], out: &mut Vec<u8>) -> bool {
        let Some((text, tag)) = sealed.split_last_chunk::<TAG_BYTES>() else { return false };
        out.resize(text.len(), 0);
        self.key.open_separate_gather(nonce(block), self.aad(block), text, tag, out).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new(VaultId([1; 16]), Zeroizing::new([2; 32]), Salts::Random)
    }

    #[test]
    fn a_block_opens_only_where_it_was_sealed() {
        let keys = keys();
        let name = keys.name(ObjectKind::Page, &[b"plain"]);
        let salt = keys.salt(&name);
        let mut sealed = b"plain".to_vec();
        let tag = keys.object(&name, &salt).seal(7, &mut sealed);
        sealed.extend(tag);

        let opens = |keys: &Keys, name: &ObjectName, salt: &Salt, block| {
            let mut out = Vec::new();
            keys.object(name, salt).open(block, &sealed, &mut out) && out == b"plain"
        };
        assert!(opens(&keys, &name, &salt, 7));
        assert!(!opens(&keys, &name, &salt, 8), "another block");
        assert!(!opens(&keys, &name, &[0; 32], 7), "another salt");
        assert!(!opens(&keys, &keys.name(ObjectKind::Page, &[b"other"]), &salt, 7), "another name");
        let kind = ObjectName::new(ObjectKind::Manifest, *name.as_bytes());
        assert!(!opens(&keys, &kind, &salt, 7), "another kind");
        let vault = Keys::new(VaultId([9; 16]), Zeroizing::new([2; 32]), Salts::Random);
        assert!(!opens(&vault, &name, &salt, 7), "another vault");
    }

    #[test]
    fn names_depend_on_key_and_kind() {
        let other = Keys::new(VaultId([1; 16]), Zeroizing::new([3; 32]), Salts::Random);
        let name = keys().name(ObjectKind::Page, &[b"x"]);
        assert_ne!(name.as_bytes(), keys().name(ObjectKind::Manifest, &[b"x"]).as_bytes());
        assert_ne!(name, other.name(ObjectKind::Page, &[b"x"]));
        assert_eq!(name, keys().name(ObjectKind::Page, &[b"x"]));
    }

    #[test]
    fn salts_do_not_repeat() {
        let keys = keys();
        let name = keys.name(ObjectKind::Page, &[b"x"]);
        assert_ne!(keys.salt(&name), keys.salt(&name));
    }
}

//! What is held true of whatever bytes stand where the header of a slice is to be: a target for a fuzzer, and for the test
//! below, which needs none.
//!
//! A header is sealed, and its name is its hash. So who makes such bytes has the key; but an older or a newer Ebbtide has
//! it too.

use super::header::Root;
use crate::{
    VaultId,
    crypt::{Keys, Salts},
    name::ObjectKind,
};

/// The target of this package and its name, which is that of its seeds.
pub const TARGET: (&str, fn(&[u8])) = ("slice-header", header);

/// A header that was unsealed: what is taken for one does not contradict itself.
pub fn header(plain: &[u8]) {
    let keys = Keys::new(VaultId([1; 16]), [2; 32].into(), Salts::Random);
    let name = keys.name(ObjectKind::Slice, &[plain]);
    let Ok(root) = Root::read(&keys, &name, plain) else { return };
    let (header, ranges) = (&root.header, root.ranges(1 << 16));
    assert!(ranges.is_sorted_by(|range, next| range.start <= range.end && range.end == next.start));
    assert!(header.after.precedes(header.first) && header.read_from <= header.last.time);
    assert_eq!(header.entries, root.blocks.iter().map(|block| block.entries).sum::<u64>());
    let other = keys.name(ObjectKind::Slice, &[plain, b" "]);
    assert!(Root::read(&keys, &other, plain).is_err(), "a header that another one has the name of");
    let written = serde_json::to_vec(&root).expect("a header can be written");
    let name = keys.name(ObjectKind::Slice, &[&written]);
    let read = Root::read(&keys, &name, &written);
    assert_eq!(read.ok(), Some(root), "a header is another one when it is written again");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_true_holds_for_seeds_and_what_becomes_of_them() {
        let (name, target) = TARGET;
        testbed::mutation::around(name, target);
    }
}

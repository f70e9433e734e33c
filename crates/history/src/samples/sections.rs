//! A diff of a document, put together from its sections.

use crate::raw::{kind, write};

/// Appends a diff that removes, sets and adds these fields (`d`, `u`, `i`), and then the diffs `inner` to fields.
pub(super) fn push_sections(sections: &[Vec<u8>; 3], inner: &[u8], out: &mut Vec<u8>) {
    let start = write::open(out);
    for (name, fields) in
        [b"d", b"u", b"i"].into_iter().zip(sections).filter(|(_, fields)| !fields.is_empty())
    {
        write::push_head(out, kind::DOCUMENT, name);
        let section = write::open(out);
        out.extend(fields);
        write::close(out, section);
    }
    out.extend(inner);
    write::close(out, start);
}

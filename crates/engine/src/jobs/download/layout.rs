//! Where mongodump puts things, so that stock mongorestore finds them.
//!
//! `dump/<database>/<collection>.bson` and `.metadata.json`; collection names are escaped as URL path segments,
//! and those that would make a file name longer than a file system takes are cut and marked with their SHA-1,
//! the full name standing in the metadata. Source: mongo-tools, `mongodump/prepare.go` `outputPath`.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use base64::Engine as _;

/// The directory inside the archive that `mongorestore --dir` is pointed at.
pub(crate) const ROOT: &str = "dump";
/// Escaped names longer than this are cut: 255 bytes less the longest ending, `.metadata.json.gz`.
const ESCAPED_BYTES_MAX: usize = 238;
/// How much of an escaped name stays when it is cut: the mark and the hash take 30 bytes.
const ESCAPED_BYTES_KEPT: usize = 208;

/// Path of the documents of a collection.
pub(crate) fn bson_path(database: &str, collection: &str) -> String {
    format!("{ROOT}/{database}/{}.bson", file_stem(collection))
}

/// Path of the options and indexes of a collection.
pub(crate) fn metadata_path(database: &str, collection: &str) -> String {
    format!("{ROOT}/{database}/{}.metadata.json", file_stem(collection))
}

/// The file name of a collection without its ending.
pub(crate) fn file_stem(collection: &str) -> String {
    let escaped = escape(collection);
    if escaped.len() <= ESCAPED_BYTES_MAX {
        return escaped;
    }
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, collection.as_bytes());
    let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash.as_ref());
    format!("{}%24{hash}", &escaped[..ESCAPED_BYTES_KEPT])
}

/// Escapes as Go's `url.PathEscape` does.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_mongodump_does() {
        assert_eq!(file_stem("orders"), "orders");
        assert_eq!(file_stem("cafés"), "caf%C3%A9s");
        assert_eq!(file_stem("a/b c%d"), "a%2Fb%20c%25d");
        assert_eq!(file_stem("x,y;z?"), "x%2Cy%3Bz%3F");
        assert_eq!(file_stem("a$b&c+d=e:f@g~h"), "a$b&c+d=e:f@g~h");
        assert_eq!(bson_path("db", "new\nline"), "dump/db/new%0Aline.bson");
    }

    #[test]
    fn long_names_are_cut_and_marked_with_their_hash() {
        // A name and its file from mongo-tools' own test data.
        let very = "Very".repeat(44);
        let name = format!("a{very}LongCollectionNameConsistingOfExactlyTwoHundredAndFortySevenCharacters");
        let file = format!("a{very}LongCollectionNameConsistingOfE%24xFO0VquRn7cg3QooSZD5sglTddU");
        assert_eq!(file_stem(&name), file);
        let long = "é".repeat(110);
        let stem = file_stem(&long);
        assert_eq!(stem.len(), ESCAPED_BYTES_MAX);
        assert_eq!(&stem[ESCAPED_BYTES_KEPT..ESCAPED_BYTES_KEPT + 3], "%24");
    }
}

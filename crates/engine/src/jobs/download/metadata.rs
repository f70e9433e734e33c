//! The metadata file that stands beside each collection of a dump: options, indexes, UUID, name and type.

use history::Malformed;
use vault::CollectionMeta;

use crate::{extjson, lease::JobError};

/// The file of a collection that is of this kind for mongorestore.
///
/// # Errors
/// [`JobError::Failed`] when what the manifest says of it is no BSON.
pub(crate) fn of(meta: &CollectionMeta, kind: &str) -> Result<Vec<u8>, JobError> {
    let metadata = Metadata {
        options: &meta.options,
        indexes: &meta.indexes,
        uuid: meta.uuid.as_ref().map(<[u8; 16]>::as_slice),
        collection: &meta.name,
        kind,
    };
    let json = metadata.to_json().map_err(|e| {
        JobError::failed_by(format!("the metadata of {}.{} cannot be written", meta.db, meta.name), e)
    })?;
    Ok(json.into_bytes())
}

/// What a metadata file says.
#[derive(Debug, Clone, Copy)]
struct Metadata<'a> {
    /// Raw options as `listCollections` shows them.
    options: &'a [u8],
    /// Raw index specs as `listIndexes` shows them, `_id` first. Empty for views.
    indexes: &'a [Vec<u8>],
    /// The collection's UUID, which views do not have.
    uuid: Option<&'a [u8]>,
    /// The full name, also where the file's name is cut.
    collection: &'a str,
    /// `collection`, `view` or `timeseries`.
    kind: &'a str,
}

impl Metadata<'_> {
    /// The file's content.
    ///
    /// # Errors
    /// [`Malformed`] when options or specs are no BSON.
    fn to_json(self) -> Result<String, Malformed> {
        let mut json = String::from(r#"{"options":"#);
        extjson::push_document(&mut json, self.options)?;
        json.push_str(r#","indexes":["#);
        for (position, spec) in self.indexes.iter().enumerate() {
            if position > 0 {
                json.push(',');
            }
            extjson::push_document(&mut json, spec)?;
        }
        json.push(']');
        if let Some(uuid) = self.uuid {
            json.push_str(r#","uuid":"#);
            extjson::push_text(&mut json, &hex::encode(uuid));
        }
        json.push_str(r#","collectionName":"#);
        extjson::push_text(&mut json, self.collection);
        json.push_str(r#","type":"#);
        extjson::push_text(&mut json, self.kind);
        json.push('}');
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    #[test]
    fn the_file_reads_as_mongodump_writes_it() {
        let options = rawdoc! {"capped": true, "size": 4096_i32};
        let indexes = [rawdoc! {"v": 2_i32, "key": {"_id": 1_i32}, "name": "_id_"}.into_bytes()];
        let metadata = Metadata {
            options: options.as_bytes(),
            indexes: &indexes,
            uuid: Some(&[0xAB; 16]),
            collection: "log",
            kind: "collection",
        };
        assert_eq!(
            metadata.to_json().unwrap(),
            concat!(
                r#"{"options":{"capped":true,"size":{"$numberInt":"4096"}},"#,
                r#""indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}],"#,
                r#""uuid":"abababababababababababababababab","collectionName":"log","type":"collection"}"#
            )
        );
    }
}

//! Passing over the entries of an oplog that cannot matter to a question, without reading them in full.
//!
//! A question about one document meets a million entries and needs a few. What is passed over is only what is certain: a
//! write of another document in a form that is known. Everything else is kept, so that whoever reads on finds what cannot
//! be folded, and why.

use crate::{
    CollectionId, Malformed, SortKey,
    entry::ENTRY_VERSION,
    raw::{self, Element},
};

/// Names of definitions of views are never passed over: they decide what a namespace is.
const VIEWS: &str = "system.views";

/// What is asked of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Everything.
    All,
    /// Which collections there are, and how they are defined.
    Definitions,
    /// The same, and the documents of one collection.
    Collection(CollectionId),
    /// The same, and the documents with this key: of every collection, for it may get any name later.
    Key(SortKey),
}

impl Wanted {
    /// Whether a write of this document is asked for.
    pub fn includes(&self, collection: CollectionId, key: &SortKey) -> bool {
        match self {
            Self::All => true,
            Self::Definitions => false,
            Self::Collection(wanted) => *wanted == collection,
            Self::Key(wanted) => wanted == key,
        }
    }

    /// Whether an entry has to be read. One that is malformed or not known has to be.
    pub fn keeps(&self, entry: &[u8]) -> bool {
        *self == Self::All || self.matters(entry).unwrap_or(true)
    }

    fn matters(&self, entry: &[u8]) -> Result<bool, Malformed> {
        let Some(write) = Write::read(entry)? else { return Ok(true) };
        let (database, collection) = write.namespace.split_once('.').unwrap_or((write.namespace, ""));
        if database.is_empty() || collection == VIEWS {
            return Ok(true);
        }
        Ok(match self {
            Self::All => true,
            Self::Definitions => false,
            Self::Collection(wanted) => write.collection == *wanted,
            Self::Key(wanted) => SortKey::of_value(write.id.kind, write.id.value)? == *wanted,
        })
    }
}

/// A write of one document, as far as it tells which one.
struct Write<'a> {
    namespace: &'a str,
    collection: CollectionId,
    id: Element<'a>,
}

impl<'a> Write<'a> {
    /// None for what is no write of one document in a form that is known.
    fn read(entry: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let (mut kind, mut namespace, mut collection) = (None, None, None);
        let (mut object, mut object2) = (None, None);
        for element in raw::elements(entry) {
            let element = element?;
            match element.name {
                b"op" if kind.is_none() => kind = Some(element.text()),
                b"ns" if namespace.is_none() => namespace = element.text(),
                b"ui" if collection.is_none() => collection = element.uuid(),
                b"o" if object.is_none() => object = element.document(),
                b"o2" if object2.is_none() => object2 = element.document(),
                b"v" if element.integer() == Some(ENTRY_VERSION) => {}
                b"ts" if element.timestamp().is_some() => {}
                b"t" | b"wall" | b"lsid" | b"txnNumber" | b"stmtId" | b"prevOpTime" | b"fromMigrate" => {}
                b"preImageOpTime" | b"postImageOpTime" | b"needsRetryImage" => {}
                // Whatever else there is may change the meaning.
                _ => return Ok(None),
            }
        }
        let of = match kind.flatten() {
            Some("i" | "d") => object,
            Some("u") => object2,
            _ => None,
        };
        let (Some(of), Some(namespace), Some(collection)) = (of, namespace, collection) else {
            return Ok(None);
        };
        let id = raw::field(of, "_id")?;
        Ok(id.map(|id| Self { namespace, collection: CollectionId(collection), id }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{Binary, RawDocumentBuf, Timestamp, rawdoc, spec::BinarySubtype};

    use super::*;

    fn entry(op: &str, collection: u8, object: RawDocumentBuf, more: RawDocumentBuf) -> RawDocumentBuf {
        let ui = Binary { subtype: BinarySubtype::Uuid, bytes: vec![collection; 16] };
        let mut entry = rawdoc! {
            "op": op, "ns": "app.things", "ui": ui, "o": object, "ts": Timestamp { time: 1, increment: 1 }, "t": 1i64,
            "v": 2i64, "wall": bson::DateTime::from_millis(0),
        };
        for field in more.iter() {
            let (name, value) = field.unwrap();
            entry.append(name, value);
        }
        entry
    }

    fn key(id: impl Into<bson::Bson>) -> Wanted {
        let document = RawDocumentBuf::try_from(&bson::doc! { "_id": id.into() }).unwrap();
        Wanted::Key(SortKey::of_document(document.as_bytes()).unwrap())
    }

    #[test]
    fn a_document_is_found_by_the_value_of_its_id() {
        let insert = entry("i", 1, rawdoc! { "_id": 5, "x": 1 }, rawdoc! {});
        assert!(key(5.0).keeps(insert.as_bytes()) && key(5_i64).keeps(insert.as_bytes()));
        assert!(!key(6).keeps(insert.as_bytes()) && !key("5").keeps(insert.as_bytes()));
        let update = entry("u", 1, rawdoc! { "_id": 7.0, "x": 1 }, rawdoc! { "o2": { "_id": 7 } });
        assert!(key(7).keeps(update.as_bytes()) && !key(5).keeps(update.as_bytes()));
        let [one, other] = [1, 2].map(|id| Wanted::Collection(CollectionId([id; 16])));
        assert!(one.keeps(update.as_bytes()) && !other.keeps(update.as_bytes()));
        assert!(!Wanted::Definitions.keeps(update.as_bytes()) && Wanted::All.keeps(update.as_bytes()));
    }

    #[test]
    fn what_is_not_understood_is_never_passed_over() {
        let other = key(99);
        let plain = || entry("i", 1, rawdoc! { "_id": 5 }, rawdoc! {});
        assert!(!other.keeps(plain().as_bytes()));
        let mut unknown = plain();
        unknown.append(bson::raw::cstr!("surprise"), 1);
        let without_id = entry("i", 1, rawdoc! { "x": 5 }, rawdoc! {});
        let without_target = entry("u", 1, rawdoc! { "_id": 5 }, rawdoc! {});
        let newer = rawdoc! { "op": "i", "ns": "a.b", "o": { "_id": 5 }, "v": 3i64 };
        let command = entry("c", 1, rawdoc! { "drop": "things" }, rawdoc! {});
        for kept in
            [unknown, without_id, without_target, newer, command, entry("x", 1, rawdoc! {}, rawdoc! {})]
        {
            assert!(other.keeps(kept.as_bytes()), "{kept:?}");
        }
        assert!(other.keeps(&plain().as_bytes()[..20]), "cut short");
        let views = rawdoc! {
            "op": "i", "ns": "app.system.views", "ui": Binary { subtype: BinarySubtype::Uuid, bytes: vec![1; 16] },
            "o": { "_id": "app.v" }, "v": 2i64,
        };
        assert!(other.keeps(views.as_bytes()) && Wanted::Definitions.keeps(views.as_bytes()));
    }
}

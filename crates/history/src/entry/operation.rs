//! What an entry does, or one operation inside `applyOps`, which looks alike but has no time of its own.

use super::{Command, command, set};
use crate::{
    CollectionId, Malformed,
    raw::{self, Element, Elements},
};

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation<'a> {
    /// `ns`: `db.collection`, `db.$cmd` for commands, empty for notes.
    pub namespace: &'a str,
    /// `ui`: the collection. Operations of an `applyOps` command that a user wrote may lack it.
    pub collection: Option<CollectionId>,
    /// `fromMigrate`: hidden from change streams; the data changes all the same.
    pub from_migrate: bool,
    /// What.
    pub kind: Kind<'a>,
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind<'a> {
    /// `i`
    Insert {
        /// The document, raw.
        document: &'a [u8],
    },
    /// `u`
    Update {
        /// The `_id` of the document, as it was before.
        id: Element<'a>,
        /// What becomes of it.
        update: Update<'a>,
    },
    /// `d`
    Delete {
        /// The `_id` of the document.
        id: Element<'a>,
    },
    /// `n`
    Noop,
    /// `c`
    Command(Command<'a>),
    /// What this version does not know, in words.
    Unknown(String),
}

/// What an update makes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update<'a> {
    /// This whole document; its `_id` is equal to that of before, but its bytes may differ.
    Replacement(&'a [u8]),
    /// What a diff makes of it; see [`crate::diff`].
    Diff(&'a [u8]),
    /// What `$set` and `$unset` make of it (`$v: 1`). Servers of 5.0 write it while their feature compatibility version
    /// is 4.4, and any server when a user's `applyOps` says so. Not applied: where it puts new fields depended on the
    /// version.
    Modifiers(&'a [u8]),
}

impl<'a> Operation<'a> {
    /// Reads an entry, or an operation inside `applyOps`.
    ///
    /// # Errors
    /// [`Malformed`] when something that its kind always has is missing or of a wrong type.
    pub fn read(document: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::default();
        for element in raw::elements(document) {
            fields.take(element?)?;
        }
        let namespace = fields.namespace.ok_or(Malformed("an operation without ns"))?;
        let kind = fields.kind.ok_or(Malformed("an operation without op"))?;
        let object = || fields.object.ok_or(Malformed("an operation without o"));
        let kind = match (kind, fields.unknown) {
            (_, Some(unknown)) => Kind::Unknown(format!("the field {unknown}")),
            ("i", _) => Kind::Insert { document: object()? },
            ("u", _) => update(object()?, fields.object2.ok_or(Malformed("an update without o2"))?)?,
            ("d", _) => Kind::Delete { id: id(object()?)? },
            ("n", _) => Kind::Noop,
            ("c", _) => Kind::Command(command::read(object()?, fields.object2)?),
            (other, _) => Kind::Unknown(format!("the operation {other}")),
        };
        Ok(Self { namespace, collection: fields.collection, from_migrate: fields.from_migrate, kind })
    }

    /// The database.
    pub fn database(&self) -> &'a str {
        self.namespace.split_once('.').map_or(self.namespace, |(database, _)| database)
    }
}

#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a str>,
    namespace: Option<&'a str>,
    collection: Option<CollectionId>,
    object: Option<&'a [u8]>,
    object2: Option<&'a [u8]>,
    from_migrate: bool,
    unknown: Option<String>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, element: Element<'a>) -> Result<(), Malformed> {
        match element.name {
            b"op" => set(&mut self.kind, element.text(), "op")?,
            b"ns" => set(&mut self.namespace, element.text(), "ns")?,
            b"ui" => set(&mut self.collection, element.uuid().map(CollectionId), "ui")?,
            b"o" => set(&mut self.object, element.document(), "o")?,
            b"o2" => set(&mut self.object2, element.document(), "o2")?,
            b"fromMigrate" => self.from_migrate |= element.boolean() == Some(true),
            // Known: the rest of the entry, or what changes nothing in a fold.
            b"ts" | b"t" | b"v" | b"h" | b"wall" | b"lsid" | b"txnNumber" | b"txnRetryCounter"
            | b"stmtId" => {}
            b"prevOpTime" | b"multiOpType" | b"preImageOpTime" | b"postImageOpTime" | b"needsRetryImage" => {}
            b"_id" | b"b" | b"tid" | b"destinedRecipient" | b"checkExistenceForDiffInsert" => {}
            b"donorOpTime" | b"donorTimelineField" | b"fromTenantMigration" => {}
            // One that is not may change the meaning of the others.
            name => {
                self.unknown.get_or_insert_with(|| String::from_utf8_lossy(name).into_owned());
            }
        }
        Ok(())
    }
}

fn id(document: &[u8]) -> Result<Element<'_>, Malformed> {
    raw::field(document, "_id")?.ok_or(Malformed("an operation without _id"))
}

/// A replacement always has `_id`, and may have any other field, `$v` included; no other form has `_id`.
fn update<'a>(object: &'a [u8], object2: &'a [u8]) -> Result<Kind<'a>, Malformed> {
    let id = id(object2)?;
    if raw::field(object, "_id")?.is_some() {
        return Ok(Kind::Update { id, update: Update::Replacement(object) });
    }
    let version = raw::field(object, "$v")?;
    let update = match version.as_ref().map(Element::integer) {
        Some(Some(2)) => {
            let diff = raw::field(object, "diff")?.and_then(|diff| diff.document());
            Update::Diff(diff.ok_or(Malformed("an update without its diff"))?)
        }
        Some(Some(1)) => Update::Modifiers(object),
        None if raw::elements(object)
            .next()
            .transpose()?
            .is_some_and(|first| first.name.starts_with(b"$")) =>
        {
            Update::Modifiers(object)
        }
        _ => return Ok(Kind::Unknown("an update of an unknown form".to_owned())),
    };
    Ok(Kind::Update { id, update })
}

/// The operations of `applyOps`, in order. Stops after the first error.
#[derive(Debug, Clone)]
pub struct Operations<'a>(Elements<'a>);

impl<'a> Operations<'a> {
    /// Of the raw array.
    pub fn of(array: &'a [u8]) -> Self {
        Self(raw::elements(array))
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = Result<Operation<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = |element: Element<'a>| {
            Operation::read(element.document().ok_or(Malformed("an operation that is no document"))?)
        };
        self.0.next().map(|element| element.and_then(read))
    }
}

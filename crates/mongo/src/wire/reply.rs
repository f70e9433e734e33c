//! Reading the fields of replies, which servers fill with one number type or another.

use bson::raw::{RawBsonRef, RawDocument};

use crate::{ClusterTime, Error, Result};

/// Field access for replies; absent and mistyped are the same to us.
pub(crate) trait ReplyExt {
    /// A whole number, however it is typed.
    fn number(&self, name: &str) -> Option<i64>;
    /// A string.
    fn text(&self, name: &str) -> Option<&str>;
    /// A document.
    fn child(&self, name: &str) -> Option<&RawDocument>;
    /// A truth: `true` or a number other than zero.
    fn truth(&self, name: &str) -> bool;
    /// A timestamp.
    fn timestamp(&self, name: &str) -> Option<ClusterTime>;
    /// A UUID.
    fn uuid(&self, name: &str) -> Option<[u8; 16]>;
    /// The documents of an array.
    fn children(&self, name: &str) -> Vec<&RawDocument>;
    /// `operationTime`, which a member of a replica set always tells.
    fn operation_time(&self) -> Result<ClusterTime> {
        self.timestamp("operationTime").ok_or_else(|| Error::protocol("a reply without operationTime"))
    }
}

impl ReplyExt for RawDocument {
    fn number(&self, name: &str) -> Option<i64> {
        match self.get(name).ok()?? {
            RawBsonRef::Int32(value) => Some(value.into()),
            RawBsonRef::Int64(value) => Some(value),
            // Servers send small counts and `ok` as doubles; nothing we read reaches 2^53.
            #[allow(clippy::cast_possible_truncation)]
            RawBsonRef::Double(value) => Some(value as i64),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get_str(name).ok()
    }

    fn child(&self, name: &str) -> Option<&RawDocument> {
        self.get_document(name).ok()
    }

    fn truth(&self, name: &str) -> bool {
        matches!(self.get(name), Ok(Some(RawBsonRef::Boolean(true))))
            || self.number(name).is_some_and(|number| number != 0)
    }

    fn timestamp(&self, name: &str) -> Option<ClusterTime> {
        self.get_timestamp(name).ok()
    }

    fn uuid(&self, name: &str) -> Option<[u8; 16]> {
        self.get_binary(name).ok().and_then(|binary| binary.bytes.try_into().ok())
    }

    fn children(&self, name: &str) -> Vec<&RawDocument> {
        let Ok(array) = self.get_array(name) else {
            return Vec::new();
        };
        array.into_iter().filter_map(|item| item.ok()?.as_document()).collect()
    }
}

/// Turns `ok: 0` into an error that knows what was asked of whom.
pub(super) fn check(reply: &RawDocument, host: &str, command: &RawDocument) -> Result<()> {
    if reply.number("ok") == Some(1) {
        return Ok(());
    }
    let code = reply.number("code").and_then(|code| i32::try_from(code).ok()).unwrap_or(0);
    let name = reply.text("codeName").unwrap_or("unnamed");
    let message = reply.text("errmsg").unwrap_or("no message");
    Err(Error::from_server(host, &about(command), code, name, message))
}

/// What a command is about, for a person: the namespace if it has one, else the command's name.
fn about(command: &RawDocument) -> String {
    let db = command.text("$db").unwrap_or("admin");
    let Some(Ok((name, value))) = command.iter().next() else {
        return db.to_owned();
    };
    match value {
        RawBsonRef::String(collection) if name.as_str() != "renameCollection" => format!("{db}.{collection}"),
        _ => match command.text("collection") {
            Some(collection) => format!("{db}.{collection}"),
            None => format!("{} on {db}", name.as_str()),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    #[test]
    fn errors_name_the_namespace() {
        let refused = rawdoc! { "ok": 0.0, "code": 239, "codeName": "SnapshotTooOld", "errmsg": "x" };
        let find = rawdoc! { "find": "flights", "$db": "app" };
        let more = rawdoc! { "getMore": 1_i64, "collection": "flights", "$db": "app" };
        for command in [find, more] {
            let error = check(&refused, "h:1", &command).unwrap_err();
            assert!(matches!(error, Error::SnapshotTooOld { namespace } if namespace == "app.flights"));
        }
        let ping = rawdoc! { "ping": 1, "$db": "admin" };
        assert_eq!(about(&ping), "ping on admin");
        for ok in [rawdoc! { "ok": 1.0 }, rawdoc! { "ok": 1 }, rawdoc! { "ok": 1_i64 }] {
            check(&ok, "h:1", &ping).unwrap();
        }
    }
}

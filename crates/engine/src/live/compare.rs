//! Both sides of a range of keys beside each other, document for document and byte for byte.

use std::cmp::Ordering;

use history::{SortKey, raw};

use super::{
    Ended,
    actual::Actual,
    expected::{Expected, Next},
};
use crate::extjson::{self, Mode};

/// So much of an `_id` is shown.
const SHOWN_CHARACTERS: usize = 512;

/// What came of the comparison of one range.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Documents that the deployment has.
    pub(super) documents: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    other: u64,
    missing: u64,
    extra: u64,
    first: Option<String>,
    contradiction: Option<String>,
}

impl Compared {
    /// The `_id` of the first document that differs, as extended JSON.
    pub(super) fn first_id(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// What differs, in words; none when nothing does.
    pub(super) fn difference(&self) -> Option<String> {
        if let Some(contradiction) = &self.contradiction {
            return Some(contradiction.clone());
        }
        let counts = [
            (self.other, "differ from what is recorded"),
            (self.missing, "are recorded and not there"),
            (self.extra, "are there and not recorded"),
        ];
        let told: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let first = self.first.as_ref().map(|id| format!("; the first has the _id {id}")).unwrap_or_default();
        (!told.is_empty()).then(|| format!("of the documents of one range {}{first}", told.join(", ")))
    }

    fn differs(&mut self, document: &[u8]) {
        if self.first.is_none() {
            self.first = Some(shown(document));
        }
    }
}

/// Compares a range up to `bound`. After a contradiction between base and record the rest of it is not looked at.
pub(super) async fn compare(
    mut expected: Expected<'_>,
    actual: &mut Actual<'_>,
    bound: Option<&[u8]>,
) -> Result<Compared, Ended> {
    let mut compared = Compared::default();
    let mut want = expected.next().await?;
    loop {
        let have = actual.peek(bound).await?;
        let order = match (&want, have) {
            (Next::Contradicted { key, defect }, _) => {
                compared.contradiction = Some(contradicted(key, defect));
                return Ok(compared);
            }
            (Next::End, None) => return Ok(compared),
            (Next::End, Some(_)) => Ordering::Greater,
            (Next::Document(_), None) => Ordering::Less,
            (Next::Document(want), Some((key, _))) => want.key.as_slice().cmp(key),
        };
        match (&want, have) {
            (Next::Document(want), _) if order.is_lt() => {
                compared.missing += 1;
                compared.differs(&want.document);
            }
            (Next::Document(want), Some((_, document))) if order.is_eq() && want.document != document => {
                compared.other += 1;
                compared.differs(document);
            }
            (_, Some((_, document))) if order.is_gt() => {
                compared.extra += 1;
                compared.differs(document);
            }
            _ => {}
        }
        if order.is_ge() {
            compared.documents += 1;
            compared.bytes += have.map_or(0, |(_, document)| document.len() as u64);
            actual.pass();
        }
        if order.is_le() {
            want = expected.next().await?;
        }
    }
}

fn contradicted(key: &SortKey, defect: &str) -> String {
    format!("the record contradicts the newest snapshot about the document with the key {key:?}: {defect}")
}

fn shown(document: &[u8]) -> String {
    let id = raw::field(document, "_id").ok().flatten();
    let id = id.and_then(|id| extjson::value(id.kind, id.value, Mode::Canonical).ok());
    id.map_or_else(|| "(unknown)".to_owned(), |id| id.chars().take(SHOWN_CHARACTERS).collect())
}

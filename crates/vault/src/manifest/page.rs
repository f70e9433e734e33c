//! Pages: runs of JSON lines, sealed as one object each.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use model::ClusterTime;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Announce;
use crate::{
    Error, ObjectKind, ObjectName, Result, Vault,
    name::fixed_hex,
    object::{open_single, seal_single},
};

/// A page ends after about this many lines, where the content says.
const LINES_EXPECTED: u64 = 1000;
/// A page ends here at the latest.
const LINES_MAX: u64 = 4 * LINES_EXPECTED;
/// A page ends when it holds this much.
const PAGE_BYTES_TARGET: usize = 1 << 20;
/// One line can be long: a view's pipeline, or keys, of 16 MiB.
const PAGE_BYTES_MAX: usize = 128 << 20;
/// Pages read ahead while lines are taken.
const PAGES_AHEAD: usize = 2;

/// A reference to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRef {
    /// The object.
    pub name: ObjectName,
    /// How many lines it has.
    pub lines: u64,
    /// The cluster time of the lines that tell none.
    ///
    /// It stands here and not in the lines, so that data that did not change between two snapshots is the same
    /// page in both.
    pub as_of: ClusterTime,
}

/// A page reference as it is written: absent time is that of the reference above.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageLine {
    page: String,
    lines: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    as_of: Option<ClusterTime>,
}

impl PageLine {
    pub(super) fn new(page: &PageRef, above: ClusterTime) -> Self {
        Self { page: page.name.hex(), lines: page.lines, as_of: (page.as_of != above).then_some(page.as_of) }
    }

    pub(super) fn into_ref(self, above: ClusterTime) -> Option<PageRef> {
        let name = ObjectName::new(ObjectKind::Page, fixed_hex(&self.page)?);
        Some(PageRef { name, lines: self.lines, as_of: self.as_of.unwrap_or(above) })
    }
}

/// Writes lines into pages.
pub(super) struct PageWriter {
    vault: Vault,
    announce: Arc<dyn Announce>,
    as_of: ClusterTime,
    plain: Vec<u8>,
    lines: u64,
    pages: Vec<PageRef>,
    stored_bytes: u64,
}

impl PageWriter {
    pub(super) fn new(vault: Vault, announce: Arc<dyn Announce>, as_of: ClusterTime) -> Self {
        Self { vault, announce, as_of, plain: Vec::new(), lines: 0, pages: Vec::new(), stored_bytes: 0 }
    }

    /// The time that lines need not tell.
    pub(super) const fn as_of(&self) -> ClusterTime {
        self.as_of
    }

    /// Adds a line. `draw` is a hash of what the line is about and decides whether a page ends behind it.
    pub(super) async fn push(&mut self, line: &impl Serialize, draw: u64) -> Result<()> {
        let refuse = |why: String| Error::Refused { what: "a line of a manifest", why };
        serde_json::to_writer(&mut self.plain, line).map_err(|e| refuse(e.to_string()))?;
        self.plain.push(b'\n');
        self.lines += 1;
        if self.plain.len() > PAGE_BYTES_MAX {
            return Err(refuse("it is too long".to_owned()));
        }
        let ends = draw.is_multiple_of(LINES_EXPECTED)
            || self.lines >= LINES_MAX
            || self.plain.len() >= PAGE_BYTES_TARGET;
        if ends { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.lines == 0 {
            return Ok(());
        }
        let name = self.vault.keys().name(ObjectKind::Page, &[&self.plain]);
        self.announce.announce(name).await.map_err(Error::Announce)?;
        self.stored_bytes += match whole_page(&self.vault, &name).await? {
            Some(stored_bytes) => stored_bytes,
            None => self.vault.put(&seal_single(self.vault.keys(), name, &self.plain)?).await?,
        };
        self.pages.push(PageRef { name, lines: self.lines, as_of: self.as_of });
        self.lines = 0;
        self.plain.clear();
        // One long line must not hold its memory for the rest of the manifest.
        self.plain.shrink_to(2 * PAGE_BYTES_TARGET);
        Ok(())
    }

    /// Writes what is left; gives the pages and what they take in the store.
    pub(super) async fn finish(mut self) -> Result<(Vec<PageRef>, u64)> {
        self.flush().await?;
        Ok((self.pages, self.stored_bytes))
    }
}

/// The size of a page in the store, when it is there and is what it should be: one that was damaged is stored anew.
async fn whole_page(vault: &Vault, name: &ObjectName) -> Result<Option<u64>> {
    let Some(stored_bytes) = vault.stored_bytes(name).await? else { return Ok(None) };
    match read_page(vault, name).await {
        Ok(_) => Ok(Some(stored_bytes)),
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A number from a name, for [`PageWriter::push`].
pub(super) fn draw(hash: &[u8; 32]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(word)
}

/// Streams the lines of pages as `E`, made from lines `L` by `convert`.
pub(super) fn read_lines<L, E>(
    vault: &Vault,
    pages: Vec<PageRef>,
    convert: fn(L, ClusterTime) -> Option<E>,
) -> BoxStream<'static, Result<E>>
where
    L: DeserializeOwned + 'static,
    E: Send + 'static,
{
    let vault = vault.clone();
    stream::iter(pages)
        .map(move |page| {
            let vault = vault.clone();
            async move { read_page(&vault, &page.name).await.map(|plain| (page, plain)) }
        })
        .buffered(PAGES_AHEAD)
        .and_then(move |(page, plain)| std::future::ready(parse_page(&page, &plain, convert)))
        .map_ok(|entries| stream::iter(entries.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

async fn read_page(vault: &Vault, name: &ObjectName) -> Result<Vec<u8>> {
    open_page(vault, name, &vault.get(name).await?)
}

/// The lines of a page that lies in memory.
pub(crate) fn open_page(vault: &Vault, name: &ObjectName, sealed: &[u8]) -> Result<Vec<u8>> {
    let plain = open_single(vault.keys(), name, sealed, PAGE_BYTES_MAX)?;
    if vault.keys().name(ObjectKind::Page, &[&plain]) != *name {
        return Err(Error::damaged_block(*name, 0, "its hash is another one"));
    }
    Ok(plain)
}

fn parse_page<L, E>(page: &PageRef, plain: &[u8], convert: fn(L, ClusterTime) -> Option<E>) -> Result<Vec<E>>
where
    L: DeserializeOwned,
{
    let malformed = || Error::damaged(page.name, "a line of it is malformed");
    let body = plain.strip_suffix(b"\n").ok_or_else(malformed)?;
    let entries: Vec<E> = body
        .split(|&byte| byte == b'\n')
        .map(|line| {
            let line = serde_json::from_slice(line).map_err(|_| malformed())?;
            convert(line, page.as_of).ok_or_else(malformed)
        })
        .collect::<Result<_>>()?;
    if entries.len() as u64 != page.lines {
        return Err(Error::damaged(page.name, "it has another number of lines than its reference says"));
    }
    Ok(entries)
}

//! Pages of lists.

use sqlx::{Any, any::AnyArguments, query::Query};

use crate::{Catalog, Result, row::Columns};

/// The most rows that one page holds; Atlas's limit.
pub const PAGE_SIZE_MAX: u32 = 500;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    number: u32,
    size: u32,
    count: bool,
}

impl Page {
    /// The page `number`, counted from 1, of `size` rows; both are brought into their bounds.
    pub fn new(number: u32, size: u32) -> Self {
        Self { number: number.max(1), size: size.clamp(1, PAGE_SIZE_MAX), count: true }
    }

    /// The same page without the total, which saves a statement.
    #[must_use]
    pub const fn without_count(mut self) -> Self {
        self.count = false;
        self
    }

    pub(crate) fn limit(self) -> i64 {
        i64::from(self.size)
    }

    pub(crate) fn offset(self) -> i64 {
        (i64::from(self.number) - 1) * i64::from(self.size)
    }

    pub(crate) const fn counts(self) -> bool {
        self.count
    }
}

impl Default for Page {
    /// The first page, as large as Atlas makes it by default.
    fn default() -> Self {
        Self::new(1, 100)
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// The rows of this page.
    pub items: Vec<T>,
    /// How many there are on all pages, unless the page was asked for without.
    pub total: Option<u64>,
}

impl Catalog {
    /// The total of a list, from a statement that selects it as `total`, if the page wants one.
    pub(crate) async fn total(&self, page: Page, count: Query<'_, Any, AnyArguments>) -> Result<Option<u64>> {
        if !page.counts() {
            return Ok(None);
        }
        let row = count.fetch_one(self.database.reader()).await?;
        row.count("total").map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_in_bounds() {
        let page = Page::new(0, 0);
        assert_eq!((page.limit(), page.offset()), (1, 0));
        let page = Page::new(u32::MAX, u32::MAX);
        assert_eq!((page.limit(), page.offset()), (500, (i64::from(u32::MAX) - 1) * 500));
    }
}

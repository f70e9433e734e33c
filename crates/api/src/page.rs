//! Lists: which page is asked for, and the page object with its links in Atlas's order.

use serde_json::{Value, json};

use crate::{error::Answer, query::Query};

/// Items on a page unless told otherwise.
pub(crate) const ITEMS_PER_PAGE_DEFAULT: u64 = 100;
/// Most items on a page.
pub(crate) const ITEMS_PER_PAGE_MAX: u64 = 500;
/// Highest page number, so that offsets stay inside 64 bits by far.
pub(crate) const PAGE_NUM_MAX: u64 = i32::MAX as u64;

/// The page asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRequest {
    pub(crate) number: u64,
    pub(crate) items: u64,
    pub(crate) include_count: bool,
}

impl PageRequest {
    /// The first page, as it is without any parameter.
    pub(crate) const FIRST: Self = Self { number: 1, items: ITEMS_PER_PAGE_DEFAULT, include_count: true };

    /// Reads `pageNum`, `itemsPerPage` and `includeCount`.
    pub(crate) fn read(query: &Query) -> Answer<Self> {
        Ok(Self {
            number: query.number("pageNum", 1, PAGE_NUM_MAX)?.unwrap_or(1),
            items: query.number("itemsPerPage", 1, ITEMS_PER_PAGE_MAX)?.unwrap_or(ITEMS_PER_PAGE_DEFAULT),
            include_count: query.flag("includeCount", true)?,
        })
    }

    /// How many items lie before the page.
    pub(crate) fn offset(&self) -> u64 {
        (self.number - 1) * self.items
    }

    /// The page's slice of a list that is wholly in memory.
    pub(crate) fn slice<T>(&self, all: Vec<T>) -> Listed<T> {
        let total = all.len() as u64;
        let from = usize::try_from(self.offset()).unwrap_or(usize::MAX);
        let items = all.into_iter().skip(from).take(self.items as usize).collect();
        Listed { items, total }
    }
}

/// A page of items and how many there are in all.
#[derive(Debug, Clone)]
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    pub(crate) total: u64,
}

/// Where a list lives, for its links.
pub(crate) struct Location<'a> {
    pub(crate) base: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a Query,
}

/// The page object.
pub(crate) fn page(at: &Location<'_>, asked: PageRequest, results: Vec<Value>, total: u64) -> Value {
    let mut links = Vec::with_capacity(3);
    if asked.number > 1 {
        links.push(json!({"href": other_page(at, asked, asked.number - 1), "rel": "previous"}));
    }
    links.push(json!({"href": self_page(at, asked), "rel": "self"}));
    if asked.offset() + asked.items < total {
        links.push(json!({"href": other_page(at, asked, asked.number + 1), "rel": "next"}));
    }
    let mut object = json!({"links": links, "results": results});
    if asked.include_count {
        object["totalCount"] = total.into();
    }
    object
}

const PAGE_PARAMETERS: [&str; 2] = ["pageNum", "itemsPerPage"];

fn self_page(at: &Location<'_>, asked: PageRequest) -> String {
    href(at, &[("pageNum", asked.number), ("itemsPerPage", asked.items)])
}

/// Atlas writes the two parameters of the neighbours the other way round than those of the page itself.
fn other_page(at: &Location<'_>, asked: PageRequest, number: u64) -> String {
    href(at, &[("itemsPerPage", asked.items), ("pageNum", number)])
}

fn href(at: &Location<'_>, own: &[(&str, u64)]) -> String {
    let others = at.query.raw_without(&PAGE_PARAMETERS).map(str::to_owned);
    let pairs: Vec<String> =
        others.chain(own.iter().map(|(name, value)| format!("{name}={value}"))).collect();
    format!("{}{}?{}", at.base, at.path, pairs.join("&"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn built(query: &str, total: u64) -> Value {
        let query = Query::parse(query);
        let asked = PageRequest::read(&query).unwrap();
        page(&Location { base: "http://h", path: "/p", query: &query }, asked, vec![], total)
    }

    #[test]
    fn links_are_in_the_recorded_order() {
        let object = built("includeCount=true&pageNum=1&itemsPerPage=1", 2);
        assert_eq!(
            object["links"],
            json!([
                {"href": "http://h/p?includeCount=true&pageNum=1&itemsPerPage=1", "rel": "self"},
                {"href": "http://h/p?includeCount=true&itemsPerPage=1&pageNum=2", "rel": "next"},
            ])
        );
        let object = built("pageNum=2&pretty=true&itemsPerPage=1", 3);
        let rels: Vec<_> =
            object["links"].as_array().unwrap().iter().map(|l| l["rel"].as_str().unwrap()).collect();
        assert_eq!(rels, ["previous", "self", "next"]);
        assert_eq!(object["links"][0]["href"], "http://h/p?pretty=true&itemsPerPage=1&pageNum=1");
    }

    #[test]
    fn defaults_are_filled_in_and_the_last_page_has_no_next() {
        let object = built("", 100);
        assert_eq!(
            object["links"],
            json!([{"href": "http://h/p?pageNum=1&itemsPerPage=100", "rel": "self"}])
        );
        assert_eq!(object["totalCount"], 100);
        assert!(built("includeCount=false", 5).get("totalCount").is_none());
        assert_eq!(built("pageNum=9", 5)["results"], json!([]));
    }

    #[test]
    fn the_bounds_are_the_documented_ones() {
        for bad in
            ["pageNum=0", "itemsPerPage=0", "itemsPerPage=501", "pageNum=x", "includeCount=1", "pageNum=-1"]
        {
            assert!(PageRequest::read(&Query::parse(bad)).is_err(), "{bad}");
        }
    }
}

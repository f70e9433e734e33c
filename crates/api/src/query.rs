//! The query string: decoded for reading, raw and in the order received for pagination links.

use crate::{
    error::{Answer, Code, Problem},
    json::Layout,
};

/// More pairs than any operation has parameters.
const PAIRS_MAX: usize = 64;

/// A parsed query string. Unknown names are ignored but kept for links.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pairs: Vec<Pair>,
}

#[derive(Debug, Clone)]
struct Pair {
    raw: String,
    name: String,
    value: String,
}

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .take(PAIRS_MAX)
            .map(|raw| {
                let (name, value) = raw.split_once('=').unwrap_or((raw, ""));
                Pair { raw: raw.to_owned(), name: decode(name), value: decode(value) }
            })
            .collect();
        Self { pairs }
    }

    /// The first value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|pair| pair.name == name).map(|pair| pair.value.as_str())
    }

    /// All values of a name, in their order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.pairs.iter().filter(|pair| pair.name == name).map(|pair| pair.value.as_str()).collect()
    }

    /// A flag, `true` or `false` and nothing else.
    pub(crate) fn flag(&self, name: &'static str, default: bool) -> Answer<bool> {
        match self.get(name) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(Problem::new(Code::InvalidQueryParameter).with(name)),
        }
    }

    /// A whole number within bounds.
    pub(crate) fn number(&self, name: &'static str, min: u64, max: u64) -> Answer<Option<u64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if digits && (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(Problem::new(Code::InvalidQueryParameter).with(name)),
        }
    }

    /// The layout asked for; a bad value counts as unset here and is refused by [`Query::check`].
    pub(crate) fn layout(&self) -> Layout {
        if self.get("pretty") == Some("true") { Layout::Pretty } else { Layout::Compact }
    }

    /// Whether an envelope is asked for, as lenient as [`Query::layout`].
    pub(crate) fn envelope(&self) -> bool {
        self.get("envelope") == Some("true")
    }

    /// Checks the parameters that every operation has.
    pub(crate) fn check(&self) -> Answer<()> {
        self.flag("envelope", false)?;
        self.flag("pretty", false)?;
        Ok(())
    }

    /// All pairs but the named ones, as received.
    pub(crate) fn raw_without(&self, names: &[&str]) -> impl Iterator<Item = &str> {
        self.pairs
            .iter()
            .filter(move |pair| !names.contains(&pair.name.as_str()))
            .map(|pair| pair.raw.as_str())
    }
}

/// Decodes `%XX` and `+`; what is not UTF-8 becomes the replacement character, what is not hexadecimal stays.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'+', ..) => out.push(b' '),
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (other, ..) => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flags_and_numbers_are_strict() {
        let query = Query::parse("pretty=true&envelope=x&pageNum=0&itemsPerPage=501&n=%35&plus=+1&empty");
        assert!(query.flag("pretty", false).unwrap());
        assert!(query.flag("envelope", false).is_err());
        assert!(query.check().is_err());
        assert!(query.number("pageNum", 1, u64::MAX).is_err());
        assert!(query.number("itemsPerPage", 1, 500).is_err());
        assert_eq!(query.number("n", 1, 9).unwrap(), Some(5));
        assert!(query.number("plus", 0, 9).is_err());
        assert!(query.number("empty", 0, 9).is_err());
        assert_eq!(query.number("absent", 0, 9).unwrap(), None);
    }

    #[test]
    fn decoding_leaves_alone_what_is_not_encoded() {
        assert_eq!(decode("a%20b+c%2"), "a b c%2");
        assert_eq!(decode("%zz%"), "%zz%");
        assert_eq!(decode("%C3%A9"), "é");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC*") {
            let query = Query::parse(&text);
            let _ = query.check();
            let _ = query.raw_without(&["a"]).count();
        }
    }
}

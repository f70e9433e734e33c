//! Which part of a deployment is compared.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use mongo::Namespace;

use super::ranges::Range;

/// A share of all ranges, drawn by lot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl Share {
    /// Everything.
    pub const ALL: Self = Self(1.0);

    /// So many in a hundred; none unless that is more than none and no more than all.
    pub fn percent(percent: f64) -> Option<Self> {
        (percent > 0.0 && percent <= 100.0).then_some(Self(percent / 100.0))
    }

    /// Whether what drew this number is in it.
    fn has(self, drawn: u64) -> bool {
        self.0 >= 1.0 || (drawn as f64) < self.0 * (u64::MAX as f64)
    }
}

/// Which part of a deployment is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// How much of it.
    pub share: Share,
    /// Databases (`shop`) and collections (`shop.items`); all when there are none.
    pub namespaces: Vec<String>,
}

impl Scope {
    /// Everything.
    pub const fn everything() -> Self {
        Self { share: Share::ALL, namespaces: Vec::new() }
    }

    pub(super) fn has_namespace(&self, namespace: &Namespace) -> bool {
        let is = |wanted: &String| *wanted == namespace.db || *wanted == namespace.to_string();
        self.namespaces.is_empty() || self.namespaces.iter().any(is)
    }

    /// Whether a range is drawn. The same seed draws the same ranges.
    pub(super) fn draws(&self, seed: u64, collection: &[u8; 16], range: &Range) -> bool {
        let mut hasher = DefaultHasher::new();
        (seed, collection, &range.from).hash(&mut hasher);
        self.share.has(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_as_large_as_it_says() {
        assert_eq!(Share::percent(100.0), Some(Share::ALL));
        for nonsense in [0.0, -1.0, 100.1, f64::NAN] {
            assert_eq!(Share::percent(nonsense), None);
        }
        let scope = Scope { share: Share(0.1), namespaces: Vec::new() };
        let drawn = (0..10_000_u32).filter(|n| {
            let range = Range { segment: None, from: Some(n.to_be_bytes().to_vec()), bound: None };
            scope.draws(7, &[1; 16], &range)
        });
        let drawn = drawn.count();
        assert!((800..1_200).contains(&drawn), "{drawn}");
    }

    #[test]
    fn a_database_and_a_collection_are_chosen_by_name() {
        let scope = Scope { share: Share::ALL, namespaces: vec!["shop".into(), "bank.log".into()] };
        let has = |db, collection| scope.has_namespace(&Namespace::new(db, collection));
        assert!(has("shop", "items") && has("shop", "a.b") && has("bank", "log"));
        assert!(!has("bank", "log2") && !has("shops", "items"));
        assert!(Scope::everything().has_namespace(&Namespace::new("any", "thing")));
    }
}

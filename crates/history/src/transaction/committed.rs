//! A transaction that takes effect.

use std::borrow::Cow;

use crate::{ClusterTime, Malformed, entry::Operation, entry::Operations};

/// The operations of a transaction, and when they take effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed<'a> {
    /// For a prepared transaction `commitTimestamp`, else the time of its last entry. It decides what a transaction
    /// belongs to: a base as of a time holds all that took effect until then, wherever their entries stand.
    pub time: ClusterTime,
    parts: Parts<'a>,
}

#[derive(Debug, Clone, PartialEq)]
enum Parts<'a> {
    One(Cow<'a, [u8]>),
    Many(Vec<Vec<u8>>),
}

impl<'a> Committed<'a> {
    pub(super) fn of_one(time: ClusterTime, operations: &'a [u8]) -> Self {
        Self { time, parts: Parts::One(Cow::Borrowed(operations)) }
    }

    pub(super) fn of_many(time: ClusterTime, parts: Vec<Vec<u8>>) -> Self {
        Self { time, parts: Parts::Many(parts) }
    }

    /// The operations, in order.
    pub fn operations(&self) -> impl Iterator<Item = Result<Operation<'_>, Malformed>> {
        let (one, many): (Option<&[u8]>, &[Vec<u8>]) = match &self.parts {
            Parts::One(operations) => (Some(operations), &[]),
            Parts::Many(parts) => (None, parts),
        };
        one.into_iter().chain(many.iter().map(Vec::as_slice)).flat_map(Operations::of)
    }
}

//! Documents in memory, for a fold to begin with.

use std::{convert::Infallible, vec};

use crate::fold::Documents;

/// Gives the documents that it was made of, one after the other.
#[derive(Debug)]
pub struct Base {
    left: vec::IntoIter<Vec<u8>>,
    current: Vec<u8>,
}

impl Base {
    /// Of these documents, in their order.
    pub fn new(documents: Vec<Vec<u8>>) -> Self {
        Self { left: documents.into_iter(), current: Vec::new() }
    }
}

impl Documents for Base {
    type Error = Infallible;

    fn next(&mut self) -> Result<Option<&[u8]>, Infallible> {
        let Some(document) = self.left.next() else { return Ok(None) };
        self.current = document;
        Ok(Some(&self.current))
    }
}

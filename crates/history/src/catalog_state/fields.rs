//! Documents whose fields servers list in an order of their own.

use crate::{
    Malformed,
    raw::{self, kind, write},
};

/// The fields of a small document, to be changed and put in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<Field>);

#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: Vec<u8>,
    pub(super) kind: u8,
    pub(super) value: Vec<u8>,
}

impl Fields {
    pub(super) fn read(document: &[u8]) -> Result<Self, Malformed> {
        let own = |element: raw::Element<'_>| Field {
            name: element.name.to_vec(),
            kind: element.kind,
            value: element.value.to_vec(),
        };
        raw::elements(document).map(|element| element.map(own)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|field| field.name == name.as_bytes())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|field| field.name != name.as_bytes());
    }

    pub(super) fn set(&mut self, name: &str, kind: u8, value: &[u8]) {
        match self.0.iter_mut().find(|field| field.name == name.as_bytes()) {
            Some(field) => (field.kind, field.value) = (kind, value.to_vec()),
            None => self.0.push(Field { name: name.as_bytes().to_vec(), kind, value: value.to_vec() }),
        }
    }

    pub(super) fn set_text(&mut self, name: &str, text: &str) {
        let mut value = (text.len() as u32 + 1).to_le_bytes().to_vec();
        value.extend(text.as_bytes());
        value.push(0);
        self.set(name, kind::STRING, &value);
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Field> {
        self.0.iter_mut()
    }

    /// As a document, in an order of names; an error is the name that the order does not have.
    pub(super) fn in_order(mut self, order: &[&str]) -> Result<Vec<u8>, String> {
        let place = |field: &Field| order.iter().position(|name| name.as_bytes() == field.name);
        if let Some(unknown) = self.0.iter().find(|field| place(field).is_none()) {
            return Err(String::from_utf8_lossy(&unknown.name).into_owned());
        }
        self.0.sort_by_key(place);
        Ok(self.as_they_are())
    }

    /// As a document, in the order in which they are.
    pub(super) fn as_they_are(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let start = write::open(&mut out);
        for field in &self.0 {
            write::push_as(&mut out, field.kind, &field.name, &field.value);
        }
        write::close(&mut out, start);
        out
    }
}

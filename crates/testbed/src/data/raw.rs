//! BSON made by hand, for documents that no library would write.

/// Builds a raw document element by element; anything goes, duplicates and nonsense included.
#[derive(Clone, Debug, Default)]
pub struct RawBuilder {
    elements: Vec<u8>,
}

impl RawBuilder {
    /// An empty document.
    pub fn new() -> Self {
        Self::default()
    }

    /// An element by its type byte, name and value bytes.
    pub fn element(mut self, kind: u8, name: &[u8], value: &[u8]) -> Self {
        self.elements.push(kind);
        self.elements.extend(name);
        self.elements.push(0);
        self.elements.extend(value);
        self
    }

    /// A 32-bit integer.
    pub fn int(self, name: &str, value: i32) -> Self {
        self.element(0x10, name.as_bytes(), &value.to_le_bytes())
    }

    /// A double by its bits.
    pub fn double_bits(self, name: &str, bits: u64) -> Self {
        self.element(0x01, name.as_bytes(), &bits.to_le_bytes())
    }

    /// A string of any bytes.
    pub fn string(self, name: &str, bytes: &[u8]) -> Self {
        self.element(0x02, name.as_bytes(), &counted(bytes))
    }

    /// A timestamp.
    pub fn timestamp(self, name: &str, time: u32, increment: u32) -> Self {
        let value = (u64::from(time) << 32) | u64::from(increment);
        self.element(0x11, name.as_bytes(), &value.to_le_bytes())
    }

    /// An embedded document.
    pub fn document(self, name: &str, inner: Self) -> Self {
        self.element(0x03, name.as_bytes(), &inner.finish())
    }

    /// An array; the names of the elements are up to the caller.
    pub fn array(self, name: &str, inner: Self) -> Self {
        self.element(0x04, name.as_bytes(), &inner.finish())
    }

    /// The bytes of the document.
    pub fn finish(self) -> Vec<u8> {
        let length = u32::try_from(self.elements.len() + 5).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(self.elements.len() + 5);
        bytes.extend(length.to_le_bytes());
        bytes.extend(self.elements);
        bytes.push(0);
        bytes
    }
}

/// A BSON string value: length, bytes, zero.
pub(super) fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len() + 1).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], bytes, &[0]].concat()
}

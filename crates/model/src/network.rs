//! Addresses that a credential may be used from.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::WallTime;

/// What IPv4 addresses in the clothes of IPv6 begin with has so many bits.
const MAPPED_PREFIX: u8 = 96;

/// One address, or all that begin alike: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`. An IPv4 address in the clothes of IPv6
/// (`::ffff:192.0.2.7`) is the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressBlock(IpNet);

/// The text is no address and no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address such as 192.0.2.7, and no block of addresses such as 192.0.2.0/24 or 2001:db8::/32"
)]
pub struct MalformedAddressBlock(String);

impl AddressBlock {
    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// In CIDR notation with all eight groups of an IPv6 address, as the patterns of Atlas want it.
    pub fn cidr_in_full(self) -> String {
        format!("{}/{}", in_full(self.0.addr()), self.0.prefix_len())
    }

    /// The address, if it is only one, in that form.
    pub fn single_in_full(self) -> Option<String> {
        (self.0.prefix_len() == self.0.max_prefix_len()).then(|| in_full(self.0.addr()))
    }
}

fn in_full(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => address.segments().map(|group| format!("{group:x}")).join(":"),
    }
}

/// In CIDR notation, a single address too.
impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AddressBlock {
    type Err = MalformedAddressBlock;

    fn from_str(text: &str) -> Result<Self, MalformedAddressBlock> {
        let malformed = || MalformedAddressBlock(text.chars().take(64).collect());
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address.to_canonical())));
        }
        let block = text.parse::<IpNet>().map_err(|_| malformed())?.trunc();
        Ok(Self(match (block.addr().to_canonical(), block.prefix_len().checked_sub(MAPPED_PREFIX)) {
            (IpAddr::V4(address), Some(length)) if block.addr().is_ipv6() => {
                Ipv4Net::new(address, length).map_err(|_| malformed())?.into()
            }
            _ => block,
        }))
    }
}

impl TryFrom<String> for AddressBlock {
    type Error = MalformedAddressBlock;

    fn try_from(text: String) -> Result<Self, MalformedAddressBlock> {
        text.parse()
    }
}

impl From<AddressBlock> for String {
    fn from(block: AddressBlock) -> Self {
        block.to_string()
    }
}

/// An entry of an access list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessEntry {
    /// Which addresses.
    pub block: AddressBlock,
    /// Since when.
    pub created_at: WallTime,
}

/// From where a credential may be used. While nothing is in it: from everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessList(Vec<AccessEntry>);

impl AccessList {
    /// Most entries of one list.
    pub const ENTRIES_MAX: usize = 200;

    /// The entries, oldest first.
    pub fn entries(&self) -> &[AccessEntry] {
        &self.0
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry of exactly these addresses.
    pub fn entry(&self, block: AddressBlock) -> Option<&AccessEntry> {
        self.0.iter().find(|entry| entry.block == block)
    }

    /// Whether an address is in one of its entries.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|entry| entry.block.contains(address))
    }

    /// The list without some entries and with others; what is there already stays as it is.
    ///
    /// # Errors
    /// [`TooManyEntries`].
    pub fn changed(
        &self,
        remove: &[AddressBlock],
        add: &[AddressBlock],
        now: WallTime,
    ) -> Result<Self, TooManyEntries> {
        let mut list = Self(self.0.iter().filter(|entry| !remove.contains(&entry.block)).copied().collect());
        for &block in add {
            if list.entry(block).is_none() {
                list.0.push(AccessEntry { block, created_at: now });
            }
            // Before all of a long request is compared with all that is there.
            if list.0.len() > Self::ENTRIES_MAX {
                return Err(TooManyEntries);
            }
        }
        Ok(list)
    }
}

/// A list cannot be that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an access list has {max} entries at most", max = AccessList::ENTRIES_MAX)]
pub struct TooManyEntries;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn block(text: &str) -> AddressBlock {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_hold_what_begins_like_them() {
        for (text, written, inside, outside) in [
            ("192.0.2.7", "192.0.2.7/32", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "192.0.2.7/32", "::ffff:192.0.2.7", "::192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7/32", "192.0.2.7", "192.0.2.8"),
            ("::ffff:192.0.2.7/128", "192.0.2.7/32", "192.0.2.7", "192.0.2.8"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8", "::ffff:10.9.9.9", "11.0.0.0"),
            ("192.0.2.7/24", "192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("0.0.0.0/0", "0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
            ("2001:db8::/32", "2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
        ] {
            let block = block(text);
            assert_eq!(block.to_string(), written);
            assert_eq!(written.parse(), Ok(block));
            assert!(block.contains(inside.parse().unwrap()), "{text} has {inside}");
            assert!(!block.contains(outside.parse().unwrap()), "{text} has not {outside}");
        }
        assert_eq!(block("192.0.2.7").single_in_full().as_deref(), Some("192.0.2.7"));
        assert_eq!(block("2001:db8::a1").single_in_full().as_deref(), Some("2001:db8:0:0:0:0:0:a1"));
        assert_eq!(block("192.0.2.0/31").single_in_full(), None);
        assert_eq!(block("2001:db8::/32").cidr_in_full(), "2001:db8:0:0:0:0:0:0/32");
        assert_eq!("2001:db8:0:0:0:0:0:0/32".parse(), Ok(block("2001:db8::/32")));
        for bad in
            ["", "localhost", "192.0.2", "192.0.2.0/33", "192.0.2.0/", "2001:db8::/129", "192.0.2.7:80"]
        {
            assert!(bad.parse::<AddressBlock>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_list_has_each_entry_once_and_not_endlessly_many() {
        let (early, late) = (WallTime(1), WallTime(2));
        let none = AccessList::default();
        let list = none.changed(&[], &[block("192.0.2.7"), block("10.0.0.0/8")], early).unwrap();
        let again =
            list.changed(&[block("10.0.0.0/8")], &[block("192.0.2.7/32"), block("::1")], late).unwrap();
        let told: Vec<_> =
            again.entries().iter().map(|entry| (entry.block.to_string(), entry.created_at)).collect();
        assert_eq!(told, [("192.0.2.7/32".to_owned(), early), ("::1/128".to_owned(), late)]);
        assert!(again.contains("::1".parse().unwrap()) && !again.contains("10.0.0.1".parse().unwrap()));
        let many: Vec<_> = (0..=200).map(|n| block(&format!("10.0.{}.{}", n / 200, n % 200))).collect();
        assert_eq!(none.changed(&[], &many, early), Err(TooManyEntries));
        assert!(none.changed(&[], &many[1..], early).is_ok());
        let text = serde_json::to_string(&again).unwrap();
        assert_eq!(serde_json::from_str::<AccessList>(&text).unwrap(), again);
        assert!(serde_json::from_str::<AccessList>(&text.replace("::1/128", "::1/129")).is_err());
    }
}

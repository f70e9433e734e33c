//! The data that is measured: five collections of different shape, the same bytes on every machine.
//!
//! Shares of the bytes: orders 60 %, events 15 %, blobs 12 %, users 10 %, metrics 3 %. Text comes from a small
//! vocabulary, so that it compresses as business data does.

use bson::{Binary, DateTime, Decimal128, Document, RawDocumentBuf, doc, oid::ObjectId, spec::BinarySubtype};

/// A small, fast and repeatable generator (splitmix64); nothing here needs more.
pub(crate) struct Random(u64);

impl Random {
    /// A stream of numbers of its own for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

const STATUS: [&str; 7] = ["new", "paid", "packed", "shipped", "delivered", "returned", "cancelled"];
const VOCABULARY: u64 = 6000;
/// Milliseconds of 2024-01-01.
const START: i64 = 1_704_067_200_000;
const YEAR_MS: u64 = 86_400_000 * 365;

/// One collection of the set.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Its name.
    pub(crate) name: &'static str,
    share: f64,
    mean_bytes: f64,
    make: fn(&mut Random, &Words, u64) -> Document,
}

/// The whole set.
pub(crate) const SHAPES: [Shape; 5] = [
    Shape { name: "orders", share: 0.60, mean_bytes: 1110.0, make: order },
    Shape { name: "events", share: 0.15, mean_bytes: 107.0, make: event },
    Shape { name: "blobs", share: 0.12, mean_bytes: 33_900.0, make: blob },
    Shape { name: "users", share: 0.10, mean_bytes: 583.0, make: user },
    Shape { name: "metrics", share: 0.03, mean_bytes: 2032.0, make: metric },
];

impl Shape {
    /// Documents of this collection in a set of so many megabytes.
    pub(crate) fn documents(&self, megabytes: u64) -> u64 {
        (megabytes as f64 * 1e6 * self.share / self.mean_bytes) as u64
    }

    /// The `n`th document.
    pub(crate) fn document(&self, words: &Words, n: u64) -> RawDocumentBuf {
        let mut random = Random::new(n.wrapping_mul(0x1_0000_0001).wrapping_add(self.name.len() as u64));
        RawDocumentBuf::try_from(&(self.make)(&mut random, words, n)).expect("a generated document is small")
    }
}

/// The vocabulary.
pub(crate) struct Words(Vec<String>);

impl Words {
    /// Made once.
    pub(crate) fn new() -> Self {
        const LETTERS: &[u8] = b"eeeeeeeetttttaaaaaoooooiiiiinnnnnssssrrrrhhhhllldddccuummwwffggyppbvk";
        let mut random = Random::new(7);
        let word = |random: &mut Random| {
            let length = 2 + random.below(9);
            (0..length).map(|_| char::from(*random.pick(LETTERS))).collect()
        };
        Self((0..VOCABULARY).map(|_| word(&mut random)).collect())
    }

    fn text(&self, random: &mut Random, count: u64) -> String {
        (0..count).map(|_| random.pick(&self.0).as_str()).collect::<Vec<_>>().join(" ")
    }
}

fn object_id(collection: u8, n: u64) -> ObjectId {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&(1_704_067_200 + (n / 50) as u32).to_be_bytes());
    bytes[4..].copy_from_slice(&(u64::from(collection) << 56 | n).to_be_bytes());
    ObjectId::from_bytes(bytes)
}

fn order(r: &mut Random, words: &Words, n: u64) -> Document {
    let item = |r: &mut Random| {
        let name_words = 2 + r.below(5);
        doc! {
            "sku": format!("SKU-{:06}", r.below(200_000)), "qty": 1 + r.below(20) as i32, "price": r.unit() * 500.0,
            "name": words.text(r, name_words), "opts": { "color": *r.pick(&STATUS), "gift": r.unit() < 0.1 },
        }
    };
    let items: Vec<Document> = (0..1 + r.below(9)).map(|_| item(r)).collect();
    let total: Decimal128 = format!("{}.{:02}", r.below(100_000), r.below(100)).parse().expect("a decimal");
    let tags: Vec<String> = (0..r.below(9)).map(|_| words.text(r, 1)).collect();
    let mut order = doc! {
        "_id": object_id(1, n), "customerId": r.below(300_000) as i32, "status": *r.pick(&STATUS),
        "createdAt": DateTime::from_millis(START + r.below(YEAR_MS) as i64), "items": items, "total": total,
        "ship": {
            "name": words.text(r, 2), "street": words.text(r, 3), "zip": format!("{:05}", r.below(100_000)),
            "geo": { "type": "Point", "coordinates": [r.unit() * 360.0 - 180.0, r.unit() * 170.0 - 85.0] },
        },
        "tags": tags, "rev": r.below(1 << 40) as i64,
    };
    if r.unit() < 0.4 {
        let count = 5 + r.below(86);
        order.insert("notes", words.text(r, count));
    }
    if r.unit() < 0.1 {
        order.insert("cancel", bson::Bson::Null);
    }
    order
}

fn event(r: &mut Random, _: &Words, n: u64) -> Document {
    doc! {
        "_id": n as i64, "t": DateTime::from_millis(START + n as i64 * 37), "u": r.below(300_000) as i32,
        "k": *r.pick(&STATUS), "v": r.unit(),
        "ip": format!("10.{}.{}.{}", r.below(256), r.below(256), r.below(256)), "s": format!("{:016x}", r.next()),
    }
}

fn blob(r: &mut Random, words: &Words, n: u64) -> Document {
    let length = 2048 + r.below(63_488);
    let bytes: Vec<u8> =
        (0..length.div_ceil(8)).flat_map(|_| r.next().to_le_bytes()).take(length as usize).collect();
    doc! {
        "_id": object_id(2, n), "name": format!("f/{}/{n}", words.text(r, 1)), "ct": "application/octet-stream",
        "data": Binary { subtype: BinarySubtype::Generic, bytes },
    }
}

fn user(r: &mut Random, words: &Words, n: u64) -> Document {
    let bio = r.below(61);
    let roles: Vec<&str> = (0..r.below(4)).map(|_| *r.pick(&STATUS)).collect();
    let prefs: Document = (0..6).map(|_| (words.text(r, 1), bson::Bson::Boolean(r.unit() < 0.5))).collect();
    let hash: String = (0..8).map(|_| format!("{:016x}", r.next())).collect();
    doc! {
        "_id": format!("user-{n:08}"), "email": format!("{}.{n}@{}.example", words.text(r, 1), words.text(r, 1)),
        "name": { "first": words.text(r, 1), "last": words.text(r, 1) }, "pw": hash, "bio": words.text(r, bio),
        "roles": roles, "age": 18 + r.below(82) as i32, "prefs": prefs, "active": r.unit() < 0.9,
    }
}

fn metric(r: &mut Random, _: &Words, n: u64) -> Document {
    let base = r.unit() * 100.0;
    let samples: Vec<f64> =
        (0..160).map(|_| ((base + r.unit() * 4.0 - 2.0) * 1000.0).round() / 1000.0).collect();
    doc! { "_id": { "h": r.below(64) as i32, "n": n as i64 }, "host": format!("host-{:03}", n % 64), "samples": samples }
}

/// A document with a random text `_id`, as some applications make them: the worst case for reading in `_id` order.
pub(crate) fn scattered(words: &Words, n: u64) -> RawDocumentBuf {
    let mut random = Random::new(n.wrapping_mul(31).wrapping_add(17));
    let id = format!("{:016x}{:016x}", random.next(), random.next());
    let count = 120 + random.below(40);
    let document = doc! { "_id": id, "n": n as i64, "text": words.text(&mut random, count) };
    RawDocumentBuf::try_from(&document).expect("a generated document is small")
}

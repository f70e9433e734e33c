//! The order of keys against the one authority: what a server makes of any `_id`s.

use bson::{Bson, Document, doc};
use history::SortKey;
use mongo::read;

use crate::support::{connected, drain, info};

/// A fixed sequence of numbers, so that a failure comes again.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn text(&mut self) -> String {
        (0..self.below(6)).map(|_| self.one(&['\0', '\u{1}', 'a', 'A', 'b', '\u{7f}', 'é', '😀'])).collect()
    }

    fn number(&mut self) -> Bson {
        let near =
            self.one(&[0.0, 1.0, 10.0, 255.0, 1e15, 9_007_199_254_740_992.0, 9.223_372_036_854_776e18, 1e22]);
        match self.below(8) {
            0 => Bson::Double(f64::from_bits(self.next())),
            1 => Bson::Double(-near + self.one(&[0.0, 0.5, -0.5, 0.1, 1.0])),
            2 => Bson::Double(near * self.one(&[1.0, 1.000_000_000_000_000_2, 0.1, 1e-300])),
            3 => Bson::Int64(self.next() as i64 >> self.below(64)),
            4 => Bson::Int64((near as i64).saturating_add(self.below(5) as i64 - 2)),
            5 => Bson::Int32(self.next() as i32 >> self.below(32)),
            6 => self.decimal(),
            _ => Bson::Double(self.one(&[
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                -0.0,
                f64::MIN_POSITIVE,
                5e-324,
            ])),
        }
    }

    fn decimal(&mut self) -> Bson {
        let sign = self.one(&["", "-"]);
        let digits = self.one(&[
            "0",
            "1",
            "10",
            "1.0",
            "9.999999999999999999999999999999999",
            "0.1",
            "0.5",
            "9007199254740993",
            "2.5",
        ]);
        let exponent = self.one(&["", "E+1", "E-1", "E+15", "E-20", "E+6000", "E-6000", "E+100"]);
        let text = self.one(&["NaN", "Infinity", "-Infinity", "", "", "", "", "", ""]);
        let text = if text.is_empty() { format!("{sign}{digits}{exponent}") } else { text.to_owned() };
        Bson::Decimal128(text.parse().unwrap())
    }

    fn document(&mut self, depth: u64) -> Document {
        (0..self.below(4))
            .map(|_| (self.one(&["a", "b", "aa", "", "é"]).to_owned(), self.value(depth + 1)))
            .collect()
    }

    fn value(&mut self, depth: u64) -> Bson {
        let nested = if depth < 3 { 21 } else { 17 };
        match self.below(nested) {
            0..6 => self.number(),
            6..8 => Bson::String(self.text()),
            8 => Bson::Symbol(self.text()),
            9 => {
                let subtype = self.one(&[0_u8, 1, 3, 5, 128]).into();
                Bson::Binary(bson::Binary { subtype, bytes: self.text().into_bytes() })
            }
            10 => Bson::ObjectId(bson::oid::ObjectId::from_bytes([self.below(3) as u8; 12])),
            11 => Bson::Boolean(self.below(2) == 1),
            12 => Bson::DateTime(bson::DateTime::from_millis(self.next() as i64 >> self.below(64))),
            13 => {
                Bson::Timestamp(bson::Timestamp { time: self.next() as u32, increment: self.next() as u32 })
            }
            14 => Bson::JavaScriptCode(self.text()),
            15 => Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                code: self.text(),
                scope: self.document(2),
            }),
            16 => [Bson::MinKey, Bson::MaxKey, Bson::Null][self.below(3) as usize].clone(),
            17 if depth > 0 => Bson::Array((0..self.below(3)).map(|_| self.value(depth + 1)).collect()),
            18 if depth > 0 => {
                let (pattern, options) = (self.one(&["a", "b", ""]), self.one(&["", "i", "im"]));
                Bson::RegularExpression(bson::Regex {
                    pattern: pattern.try_into().unwrap(),
                    options: options.try_into().unwrap(),
                })
            }
            19 if depth > 0 => Bson::Undefined,
            _ => Bson::Document(self.document(depth)),
        }
    }
}

/// Equal for the server is equal for us, and its order is ours: else ranges would lose documents between them.
#[tokio::test]
async fn any_ids_stand_in_the_servers_order() {
    let (_server, client, deployment) = connected("6.0.5").await;
    let mut draw = Draw(0x9E37_79B9_7F4A_7C15);
    let documents: Vec<Document> = (0..20_000).map(|_| doc! { "_id": draw.value(0) }).collect();
    let keys: std::collections::BTreeSet<SortKey> = documents
        .iter()
        .map(|document| {
            SortKey::of_document(bson::RawDocumentBuf::try_from(document).unwrap().as_bytes()).unwrap()
        })
        .collect();
    for batch in documents.chunks(5_000) {
        let insert = doc! { "insert": "any", "documents": batch, "ordered": false };
        let reply = client.database("app").run_command(insert).await.unwrap();
        let refused = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
        let other = refused
            .iter()
            .filter_map(Bson::as_document)
            .find(|error| error.get_i32("code").ok() != Some(11_000));
        assert_eq!(other, None, "only doubles are refused");
    }
    let collection = info(&deployment, "app.any").await;
    let mut wire = deployment.read_wire().await.unwrap();
    let at = mongo::time::majority_now(&deployment).await.unwrap();
    let found = drain(read::sorted(&mut wire, &collection, at, None).await.unwrap()).await.unwrap();
    let ours: Vec<SortKey> = found.iter().map(|document| SortKey::of_document(document).unwrap()).collect();
    for (at, pair) in ours.windows(2).enumerate() {
        let shown =
            || found[at..at + 2].iter().map(|document| crate::support::decoded(document)).collect::<Vec<_>>();
        assert!(pair[0] < pair[1], "the server has these in this order: {:#?}", shown());
    }
    assert_eq!(ours.len(), keys.len(), "what the server holds equal is not what we hold equal");
    assert!(ours.into_iter().eq(keys));
}

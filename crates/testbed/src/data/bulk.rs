//! Enough documents to make several ranges and segments.

use bson::{Bson, Document, doc, oid::ObjectId};
use mongodb::{Collection, Database};

use super::Random;

const BATCH: u32 = 1000;
const DOCUMENTS: u32 = 3000;

/// How the `_id`s of a bulk collection are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkIds {
    /// Random hexadecimal strings: `_id` order has nothing to do with storage order.
    RandomText,
    /// Increasing ObjectIds: `_id` order is storage order.
    Increasing,
    /// Integers, longs, doubles, strings and documents, shuffled.
    Mixed,
}

impl BulkIds {
    fn id(self, random: &mut Random, number: u32) -> Bson {
        match self {
            Self::RandomText => format!("{:016x}{number:08x}", random.number()).into(),
            Self::Increasing => {
                let mut bytes = [0_u8; 12];
                bytes[..4].copy_from_slice(&1_700_000_000_u32.to_be_bytes());
                bytes[8..].copy_from_slice(&number.to_be_bytes());
                ObjectId::from_bytes(bytes).into()
            }
            Self::Mixed => {
                // Odd factor: a permutation of the 32-bit numbers, so no value repeats.
                let shuffled = number.wrapping_mul(2_654_435_769);
                match number % 5 {
                    0 => Bson::Int32(shuffled as i32),
                    1 => Bson::Int64(i64::from(shuffled) + (1 << 40)),
                    2 => Bson::Double(f64::from(shuffled) + 0.25),
                    3 => Bson::String(format!("{shuffled:x}")),
                    _ => doc! { "a": shuffled, "b": random.text(3) }.into(),
                }
            }
        }
    }
}

/// Inserts documents of about `document_bytes` bytes each.
pub async fn bulk(
    collection: &Collection<Document>,
    seed: u64,
    ids: BulkIds,
    documents: u32,
    document_bytes: usize,
) -> anyhow::Result<()> {
    let random = &mut Random::new(seed);
    let mut batch = Vec::new();
    for number in 0..documents {
        let text = random.text(document_bytes.saturating_sub(100) / 2);
        batch.push(doc! {
            "_id": ids.id(random, number),
            "number": number,
            "group": random.below(100) as i32,
            "when": bson::DateTime::from_millis(1_700_000_000_000 + i64::from(number) * 1000),
            "text": format!("{text}{}", "lorem ipsum ".repeat(text.len() / 12)),
        });
        if batch.len() as u32 == BATCH {
            collection.insert_many(std::mem::take(&mut batch)).ordered(false).await?;
        }
    }
    if !batch.is_empty() {
        collection.insert_many(batch).ordered(false).await?;
    }
    Ok(())
}

/// Secondary indexes for a collection made by [`bulk`].
pub async fn bulk_indexes(collection: &Collection<Document>) -> anyhow::Result<()> {
    let indexes = vec![
        doc! { "key": { "group": 1, "when": -1 }, "name": "group_when" },
        doc! { "key": { "number": 1 }, "name": "number", "unique": true },
    ];
    let command = doc! { "createIndexes": collection.name(), "indexes": indexes };
    collection.client().database(&collection.namespace().db).run_command(command).await?;
    Ok(())
}

pub(super) async fn load(database: &Database, random: &mut Random) -> anyhow::Result<()> {
    for (name, ids) in
        [("random", BulkIds::RandomText), ("increasing", BulkIds::Increasing), ("mixed", BulkIds::Mixed)]
    {
        let collection = database.collection(name);
        bulk(&collection, random.number(), ids, DOCUMENTS, 600).await?;
        bulk_indexes(&collection).await?;
    }
    Ok(())
}

//! Reading and writing columns: what does not read back as what was written is damage, and says which column.

use std::str::FromStr;

use model::{ClusterTime, WallTime};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::{Any, Row, any::AnyArguments, any::AnyRow, query::Query};

use crate::{Error, Result};

/// Typed access to the columns of a row.
pub(crate) trait Columns {
    fn text(&self, column: &str) -> Result<String>;
    fn maybe_text(&self, column: &str) -> Result<Option<String>>;
    fn int(&self, column: &str) -> Result<i64>;
    fn maybe_int(&self, column: &str) -> Result<Option<i64>>;

    fn parsed<T: FromStr>(&self, column: &str) -> Result<T> {
        self.text(column)?.parse().map_err(|_| broken(column))
    }

    fn maybe_parsed<T: FromStr>(&self, column: &str) -> Result<Option<T>> {
        self.maybe_text(column)?.map(|text| text.parse().map_err(|_| broken(column))).transpose()
    }

    fn count(&self, column: &str) -> Result<u64> {
        u64::try_from(self.int(column)?).map_err(|_| broken(column))
    }

    fn small(&self, column: &str) -> Result<u32> {
        u32::try_from(self.int(column)?).map_err(|_| broken(column))
    }

    fn flag(&self, column: &str) -> Result<bool> {
        Ok(self.int(column)? != 0)
    }

    fn time(&self, column: &str) -> Result<WallTime> {
        self.int(column).map(WallTime)
    }

    fn maybe_time(&self, column: &str) -> Result<Option<WallTime>> {
        Ok(self.maybe_int(column)?.map(WallTime))
    }

    fn cluster_time(&self, seconds: &str, increment: &str) -> Result<ClusterTime> {
        Ok(ClusterTime { seconds: self.small(seconds)?, increment: self.small(increment)? })
    }

    fn maybe_cluster_time(&self, seconds: &str, increment: &str) -> Result<Option<ClusterTime>> {
        self.maybe_int(seconds)?.map(|_| self.cluster_time(seconds, increment)).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|_| broken(column))
    }

    fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        self.maybe_text(column)?
            .map(|text| serde_json::from_str(&text).map_err(|_| broken(column)))
            .transpose()
    }
}

impl Columns for AnyRow {
    fn text(&self, column: &str) -> Result<String> {
        Ok(self.try_get(column)?)
    }

    fn maybe_text(&self, column: &str) -> Result<Option<String>> {
        Ok(self.try_get(column)?)
    }

    fn int(&self, column: &str) -> Result<i64> {
        Ok(self.try_get(column)?)
    }

    fn maybe_int(&self, column: &str) -> Result<Option<i64>> {
        Ok(self.try_get(column)?)
    }
}

fn broken(column: &str) -> Error {
    Error::corrupt(format!("column {column} holds something else than was written"))
}

/// JSON as it is stored. Values that come here are plain data; `null` stands in for what cannot be written.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| Value::Null.to_string())
}

/// Free text as it is stored: PostgreSQL knows no NUL character.
pub(crate) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A count as it is stored.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A statement put together from constants of this crate and names of the model, never from input.
pub(crate) fn statement<'q>(sql: String) -> Query<'q, Any, AnyArguments> {
    sqlx::query(sqlx::AssertSqlSafe(sql))
}

/// A statement whose text depends on how many values it gets: not worth keeping prepared.
pub(crate) fn bulk<'q>(sql: String) -> Query<'q, Any, AnyArguments> {
    statement(sql).persistent(false)
}

/// `$first, $first+1, …`
pub(crate) fn placeholders(first: usize, count: usize) -> String {
    let names: Vec<String> = (first..first + count).map(|n| format!("${n}")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lose_what_a_database_cannot_hold() {
        assert_eq!(plain("a\0b"), "a\u{fffd}b");
        assert_eq!(stored(u64::MAX), i64::MAX);
        assert_eq!(placeholders(3, 2), "$3, $4");
    }
}

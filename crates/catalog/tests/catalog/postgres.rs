//! Catalogs on a PostgreSQL server of our own.

use catalog::Catalog;
use sqlx::Connection;
use testbed::postgres::Postgres;

/// A catalog in a new database of that name.
pub(crate) async fn catalog(server: &Postgres, database: &str) -> Catalog {
    let database: String = database.chars().take(60).collect();
    sqlx::any::install_default_drivers();
    let mut admin = sqlx::AnyConnection::connect(&server.url("postgres")).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE \"{database}\"")))
        .execute(&mut admin)
        .await
        .unwrap();
    admin.close().await.unwrap();
    Catalog::open(&server.url(&database)).await.unwrap()
}

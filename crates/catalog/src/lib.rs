//! The nouns of the control plane in SQL: SQLite or PostgreSQL.

//! Real mongod processes and oracles for tests; never shipped.

//! The Atlas Administration API v2 over HTTP.

//! A MongoDB deployment in and out as bytes: reading exactly, writing exactly.

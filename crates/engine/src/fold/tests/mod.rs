//! Folds in a vault of its own, without a deployment.
#![allow(clippy::unwrap_used)]

mod bench;
mod handing_over;
mod keeping;
mod refusals;
mod rewriting;

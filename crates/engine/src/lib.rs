//! The verbs: the worker loop, the jobs, the reconcilers.
//!
//! The only crate where a deployment, the vault and the catalog meet. What a user asks for is a row; a worker
//! claims it under a lease, runs the job, and its last transaction writes what came out of it. Everything in
//! between may be killed at any moment: the next worker goes on, and what is left over is collected.

pub mod capture;
pub mod connect;
pub mod contents;
pub mod crash;
mod damage;
pub mod engine;
mod extjson;
pub mod fold;
pub mod jobs;
pub mod lease;
pub mod live;
mod observed;
pub mod pipeline;
mod privileges;
pub mod progress;
pub mod rebuild;
pub mod reconcile;
pub mod sort;
mod spill;
mod timeline;
pub mod verify;
mod worker;

pub use engine::{Engine, Services, Settings};
pub use fold::past;
pub use lease::{JobContext, JobError, Outcome, Stop};

//! The verbs: worker, jobs, reconcilers.

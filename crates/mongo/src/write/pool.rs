//! Data-plane connections to the primary that one job opens once and uses for many collections.
//!
//! Logging in costs ten milliseconds of processor time on either side; a deployment of ten thousand small
//! collections would spend its restore on that.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Deployment, Result, wire::Connection};

/// Connections kept while nobody uses them; more are closed when they come back.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// Connections to the primary. Clones share them.
#[derive(Debug, Clone)]
pub struct ConnectionPool {
    deployment: Deployment,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl ConnectionPool {
    /// An empty pool; connections are opened when they are taken.
    pub fn new(deployment: &Deployment) -> Self {
        Self { deployment: deployment.clone(), idle: Arc::default() }
    }

    /// The deployment that the connections go to.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// A connection nobody else uses.
    ///
    /// # Errors
    /// As [`Deployment::primary_wire`].
    pub async fn take(&self) -> Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => self.deployment.primary_wire().await,
        }
    }

    /// Gives a connection back that works. One that failed is dropped instead.
    pub fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
    }

    /// Forgets all idle connections: after an error they may lead to what is no longer the primary.
    pub fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

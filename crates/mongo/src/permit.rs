//! The right to send commands, asked for before each of them.
//!
//! A job that was frozen, by a signal or by a virtual machine, wakes up in the middle of its work, and somebody else
//! may have its job by then. Looking between steps is not enough: queues of documents and loops over collections would
//! go on for a while. So the question is asked where every command passes, as late as possible.

use std::{fmt, sync::Arc};

use crate::{Error, Result};

/// Whether commands may still be sent. By default always.
#[derive(Clone, Default)]
pub struct Permit(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Permit {
    /// A permit that holds while `holds` says so. Asked often: it has to be cheap, and must not wait.
    pub fn new(holds: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(holds)))
    }

    /// Fails once it is withdrawn.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.0 {
            Some(holds) if !holds() => Err(Error::NotPermitted),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({})", if self.check().is_ok() { "holds" } else { "withdrawn" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_permit_is_good_until_it_is_withdrawn() {
        let held = Arc::new(AtomicBool::new(true));
        let permit = Permit::new({
            let held = Arc::clone(&held);
            move || held.load(Ordering::SeqCst)
        });
        assert!(permit.check().is_ok() && Permit::default().check().is_ok());
        held.store(false, Ordering::SeqCst);
        assert!(matches!(permit.check(), Err(Error::NotPermitted)));
    }
}

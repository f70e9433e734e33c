//! Members of a set that are started without it for a while.

use anyhow::Context;
use mongodb::Client;

use super::{REPLICA_SET, Server};
use crate::{binaries, process::Process};

impl Server {
    /// Does something to the data of a member with no entry in the oplog: the member is stopped and started without its
    /// set for as long as that takes. Other members keep what they have. Waits until the set is whole again.
    pub async fn past_the_oplog(
        &self,
        index: usize,
        act: impl AsyncFnOnce(&Client) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let binary = match &self.options.binary {
            Some(named) => named.clone(),
            None => binaries::find(&self.options.version)?,
        };
        let port = *self.ports.get(index).with_context(|| format!("there is no member {index}"))?;
        let log = self.directory.join(format!("member-{index}-alone.log"));
        let mut command = self.command(&binary, &self.data_directory(index), &log, port)?;
        if let Some(at) = command.iter().position(|word| word == "--replSet") {
            debug_assert_eq!(command.get(at + 1).map(String::as_str), Some(REPLICA_SET));
            command.drain(at..at + 2);
        }
        self.stop(index).await?;
        let mut alone = Process::new(command, log, port, false);
        alone.start().await?;
        let uri = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
        let acted = act(&self.connect(&uri).await?).await;
        alone.stop().await?;
        self.restart(index).await?;
        self.wait_for_members().await?;
        acted
    }
}

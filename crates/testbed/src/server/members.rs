//! What can happen to the members of a [`Server`]: elections, signals, restarts.

use std::future::IntoFuture;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use bson::doc;
use mongodb::Client;
use mongodb::options::ClientOptions;
use rustix::process::Signal;

use super::Server;

const ELECTION_PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);

impl Server {
    /// Waits until every member that runs is the primary, a secondary or an arbiter.
    pub async fn wait_for_members(&self) -> anyhow::Result<()> {
        if self.options.replica_set_members == 0 {
            return Ok(());
        }
        self.primary().await?;
        for index in 0..self.ports.len() {
            if self.pid(index).await.is_none() {
                continue;
            }
            let client = self.direct_client(index).await?;
            let deadline = Instant::now() + ELECTION_PATIENCE;
            loop {
                let hello = client.database("admin").run_command(doc! { "hello": 1 }).await;
                let is = |name: &str| hello.as_ref().is_ok_and(|hello| hello.get_bool(name).unwrap_or(false));
                if is("isWritablePrimary") || is("secondary") || is("arbiterOnly") {
                    break;
                }
                if Instant::now() > deadline {
                    bail!("member {index} is neither primary nor secondary: {hello:?}");
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// The index of the primary; waits for an election.
    pub async fn primary(&self) -> anyhow::Result<usize> {
        let mut clients = Vec::new();
        for index in self.all() {
            let mut options = ClientOptions::parse(self.uri_of(&[index], None, true)).await?;
            // A paused member answers nothing at all.
            options.server_selection_timeout = Some(Duration::from_secs(2));
            options.connect_timeout = Some(Duration::from_secs(2));
            clients.push(Client::with_options(options)?);
        }
        let deadline = Instant::now() + ELECTION_PATIENCE;
        loop {
            for (index, client) in clients.iter().enumerate() {
                if self.pid(index).await.is_some() && is_writable(client).await {
                    return Ok(index);
                }
            }
            if Instant::now() > deadline {
                bail!("no primary after {ELECTION_PATIENCE:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks the primary to step down for some seconds; returns which member it was.
    pub async fn step_down(&self, seconds: i32) -> anyhow::Result<usize> {
        let primary = self.primary().await?;
        let command = doc! { "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 5, "force": true };
        // Old servers close the connection instead of answering, so the state afterwards is the answer.
        let _ = self.direct_client(primary).await?.database("admin").run_command(command).await;
        Ok(primary)
    }

    /// The process id of one member, while it runs.
    pub async fn pid(&self, index: usize) -> Option<u32> {
        self.member(index).ok()?.lock().await.pid()
    }

    /// The log file of one member.
    pub async fn log(&self, index: usize) -> anyhow::Result<PathBuf> {
        Ok(self.member(index)?.lock().await.log().to_path_buf())
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&self, index: usize) -> anyhow::Result<()> {
        self.member(index)?.lock().await.stop().await
    }

    /// SIGKILL.
    pub async fn kill(&self, index: usize) -> anyhow::Result<()> {
        self.member(index)?.lock().await.kill();
        Ok(())
    }

    /// SIGSTOP: the member hangs, its connections stay open.
    pub async fn pause(&self, index: usize) -> anyhow::Result<()> {
        self.member(index)?.lock().await.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub async fn resume(&self, index: usize) -> anyhow::Result<()> {
        self.member(index)?.lock().await.signal(Signal::CONT)
    }

    /// Starts a member again after [`Server::stop`] or [`Server::kill`], on its data and port, and waits until it
    /// accepts connections. See [`Server::wait_for_members`] for more.
    pub async fn restart(&self, index: usize) -> anyhow::Result<()> {
        self.member(index)?.lock().await.start().await
    }
}

/// Whether this member is the primary, and says so within seconds.
async fn is_writable(client: &Client) -> bool {
    let admin = client.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).into_future();
    let answer = tokio::time::timeout(Duration::from_secs(3), hello).await;
    matches!(answer, Ok(Ok(hello)) if hello.get_bool("isWritablePrimary").unwrap_or(false))
}

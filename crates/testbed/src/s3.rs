//! An S3 server inside the test, over a directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{net::TcpListener, task::JoinHandle};

/// Access key of the one account.
pub const ID: &str = "AKIDTEST";
/// Its secret.
pub const SECRET: &str = "a secret that nobody logs";
/// The one bucket.
pub const BUCKET: &str = "backups";
/// Where in the bucket tests keep their vault.
pub const PREFIX: &str = "some/prefix";

/// A server; gone with the test. Needs a runtime of several threads where a test waits for processes.
#[derive(Debug)]
pub struct S3 {
    directory: tempfile::TempDir,
    /// Its address, for the configuration of a vault.
    pub endpoint: String,
    accepting: JoinHandle<()>,
}

impl S3 {
    /// Starts one with an empty bucket.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for the bucket")?;
        std::fs::create_dir(directory.path().join(BUCKET)).context("make the bucket")?;
        let files =
            s3s_fs::FileSystem::new(directory.path()).map_err(|e| anyhow!("open the bucket: {e:?}"))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ID, SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let endpoint = format!("http://{}", listener.local_addr().context("tell the address")?);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = auto::Builder::new(TokioExecutor::new());
                    // A client that goes away is no failure of the server.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Ok(Self { directory, endpoint, accepting })
    }

    /// The URL of a vault in the bucket.
    pub fn url() -> String {
        format!("s3://{BUCKET}/{PREFIX}")
    }

    /// Where the objects of that vault lie.
    pub fn objects(&self) -> PathBuf {
        self.directory.path().join(BUCKET).join(PREFIX)
    }

    /// Writes a configuration of `ebbtide` whose vault is in the bucket.
    ///
    /// # Errors
    /// When `place` cannot be written to.
    pub fn config(&self, place: &Path) -> anyhow::Result<PathBuf> {
        let secret = place.join("s3-secret");
        std::fs::write(&secret, format!("{SECRET}\n")).context("write the secret key")?;
        let file = place.join("config.toml");
        let text = format!(
            "[vault]\nurl = \"{}\"\nendpoint = \"{}\"\naccess_key_id = \"{ID}\"\n\
             secret_access_key_file = \"{}\"\nallow_http = true\n",
            Self::url(),
            self.endpoint,
            secret.display()
        );
        std::fs::write(&file, text).context("write the configuration")?;
        Ok(file)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

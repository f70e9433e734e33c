//! An S3 server inside the test, over a directory.
#![allow(unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::path::Path;

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{net::TcpListener, task::JoinHandle};

pub const ID: &str = "AKIDTEST";
pub const SECRET: &str = "a secret that nobody logs";
pub const BUCKET: &str = "backups";

/// Gone with the test. Needs a runtime of several threads, since the tests wait for processes.
pub struct S3 {
    pub directory: tempfile::TempDir,
    pub endpoint: String,
    accepting: JoinHandle<()>,
}

impl S3 {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ID, SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
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
        Self { directory, endpoint, accepting }
    }

    /// Writes a configuration whose vault is in the bucket; its path, for `--config`.
    pub fn config(&self, place: &Path) -> String {
        let secret = place.join("s3-secret");
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let file = place.join("config.toml");
        let text = format!(
            "[vault]\nurl = \"s3://{BUCKET}/some/prefix\"\nendpoint = \"{}\"\naccess_key_id = \"{ID}\"\n\
             secret_access_key_file = \"{}\"\nallow_http = true\n",
            self.endpoint,
            secret.display()
        );
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

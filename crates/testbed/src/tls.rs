//! A certificate authority for tests, made with the `openssl` command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The files of one authority, one server and one client.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The server's certificate and key, for `127.0.0.1` and `localhost`.
    pub server: PathBuf,
    /// The client's certificate and key.
    pub client: PathBuf,
}

impl Certificates {
    /// The client's subject as MongoDB writes it: the name of the user to make in `$external`.
    pub const CLIENT_SUBJECT: &str = "CN=backup,OU=clients,O=Ebbtide";

    /// Makes the files in `directory`, or finds them there.
    pub fn create(directory: &Path) -> anyhow::Result<Self> {
        let certificates = Self {
            authority: directory.join("authority.pem"),
            server: directory.join("server.pem"),
            client: directory.join("client.pem"),
        };
        if certificates.client.exists() {
            return Ok(certificates);
        }
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        openssl(
            directory,
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "30",
                "-sha256",
                "-subj",
                "/O=Ebbtide/OU=authority/CN=test authority",
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout",
                "authority.key",
                "-out",
                "authority.pem",
            ],
        )?;
        // MongoDB takes a client whose O, OU and DC equal the server's for a member of the cluster: they differ.
        issue(directory, "server", "/O=Ebbtide/OU=servers/CN=127.0.0.1")?;
        issue(directory, "client", "/O=Ebbtide/OU=clients/CN=backup")?;
        Ok(certificates)
    }
}

fn issue(directory: &Path, name: &str, subject: &str) -> anyhow::Result<()> {
    let file = |extension: &str| format!("{name}.{extension}");
    openssl(
        directory,
        &[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-sha256",
            "-subj",
            subject,
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
        ],
    )?;
    let extensions = "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\n\
                      extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n";
    std::fs::write(directory.join(file("ext")), extensions).context("write the certificate's extensions")?;
    openssl(
        directory,
        &[
            "x509",
            "-req",
            "-sha256",
            "-days",
            "30",
            "-in",
            &file("csr"),
            "-CA",
            "authority.pem",
            "-CAkey",
            "authority.key",
            "-CAcreateserial",
            "-extfile",
            &file("ext"),
            "-out",
            &file("crt"),
        ],
    )?;
    let mut both = std::fs::read(directory.join(file("crt"))).context("read the certificate")?;
    both.extend(std::fs::read(directory.join(file("key"))).context("read the key")?);
    std::fs::write(directory.join(file("pem")), both).context("write the certificate with its key")
}

fn openssl(directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .context("run openssl (it makes the certificates of the TLS tests)")?;
    if !output.status.success() {
        bail!("openssl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

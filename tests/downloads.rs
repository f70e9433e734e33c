//! Archives fetched by the command line: what was fetched before a kill is not fetched again, and not mixed up.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bson::{Document, doc};
use support::{Ebbtide, stderr, text};
use testbed::{Options, Server};

/// Larger than what the kernel keeps of a connection whose reader does not read.
const DOCUMENTS: u64 = 24;
const DOCUMENT_BYTES: usize = 1 << 20;
/// What goes through the narrow way before it is blocked.
const LET_THROUGH_BYTES: usize = 3 << 20;

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(DOCUMENT_BYTES / 8).flatten().collect()
}

async fn world() -> (Server, Ebbtide, String) {
    let server = Server::start(Options::default()).await.unwrap();
    let noises = server.client().await.unwrap().database("shop").collection::<Document>("noise");
    for n in 0..DOCUMENTS {
        let bytes = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: noise(n + 1) };
        noises.insert_one(doc! { "_id": n as i64, "noise": bytes }).await.unwrap();
    }
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    (server, ebbtide, snapshot)
}

/// A way to the server through which so many bytes of answers come, and then no more.
fn narrow_way(port: u16, let_through: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicUsize::new(let_through));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let left = Arc::clone(&left);
            std::thread::spawn(move || answers(server, client, &left));
        }
    });
    own
}

fn answers(mut from: TcpStream, mut to: TcpStream, left: &AtomicUsize) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(read)).is_err() {
            // Open, and silent, until the client goes away.
            while let Ok(1..) = to.read(&mut buffer) {}
            return;
        }
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn download(ebbtide: &Ebbtide, port: u16, words: &[&str]) -> std::process::Command {
    let mut command = support::program();
    command.args(["restore", "download", "main", "--output", "json"]).args(words);
    command.env("EBBTIDE_URL", format!("http://127.0.0.1:{port}")).env("EBBTIDE_PROJECT", &ebbtide.project);
    command.env("EBBTIDE_PUBLIC_KEY", &ebbtide.public_key).env("EBBTIDE_PRIVATE_KEY", &ebbtide.private_key);
    command
}

/// The parts that lie beside the file.
fn parts(file: &Path) -> Vec<PathBuf> {
    let all = support::files(file.parent().unwrap());
    all.into_iter().filter(|path| path.extension().is_some_and(|end| end == "part")).collect()
}

/// Fetches through the narrow way and kills the process in the middle.
fn fetch_half(ebbtide: &Ebbtide, words: &[&str], file: &Path) {
    let port = narrow_way(ebbtide.port, LET_THROUGH_BYTES);
    let mut command = download(ebbtide, port, words);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < support::PATIENCE, "nothing was fetched: {}", ebbtide.log());
        assert!(child.try_wait().unwrap().is_none(), "the download ended by itself");
        let length = parts(file).first().map_or(0, |part| part.metadata().map_or(0, |it| it.len()));
        if length > 1 << 20 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn succeeded(mut command: std::process::Command) -> serde_json::Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sha256(file: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_after_its_process_was_killed() {
    let (_server, ebbtide, snapshot) = world().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("main.tar.gz");
    // Of something else, under the name that a part had without its job.
    std::fs::write(place.path().join("main.tar.part"), "not of this archive").unwrap();
    let words = ["--snapshot", &snapshot, "--file", file.to_str().unwrap()];
    fetch_half(&ebbtide, &words, &file);
    let jobs = || ebbtide.cli(&["restore", "list", "main"]);
    let job = text(&jobs()[0], "id");
    let begun = place.path().join(format!("main.tar.gz.{job}.part"));
    let kept = begun.metadata().unwrap().len();

    // The rest of it fits through a way that the whole does not fit through.
    let total = jobs()[0]["archive"]["bytes"].as_u64().unwrap();
    let rest = usize::try_from(total - kept).unwrap() + 512 * 1024;
    let port = narrow_way(ebbtide.port, rest);
    assert!(u64::try_from(rest).unwrap() < total, "{rest} of {total}: nothing would be shown");
    let answer = succeeded(download(&ebbtide, port, &words));
    assert_eq!(text(&answer, "id"), job, "the same archive");
    assert_eq!(sha256(&file), text(&answer["archive"], "sha256"));
    assert_eq!(jobs().as_array().unwrap().len(), 1, "no other archive was made");
    assert!(!begun.exists());

    // By its job, into another file; and once it was fetched, a new archive is made.
    let other = place.path().join("other.tar.gz");
    let words = ["--snapshot", &snapshot, "--file", other.to_str().unwrap()];
    let next = succeeded(download(&ebbtide, ebbtide.port, &words[..2]));
    assert_ne!(text(&next, "id"), job);
    let by_job = ["--job", &text(&next, "id"), "--file", other.to_str().unwrap()];
    succeeded(download(&ebbtide, ebbtide.port, &by_job));
    assert_eq!(sha256(&other), text(&next["archive"], "sha256"));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_are_never_given_the_name_of_the_file() {
    let (_server, ebbtide, snapshot) = world().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("main.tar.gz");
    let words = ["--snapshot", &snapshot, "--file", file.to_str().unwrap()];
    fetch_half(&ebbtide, &words, &file);
    let part = parts(&file).remove(0);
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let refused = download(&ebbtide, ebbtide.port, &words).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("does not have the SHA-256"), "{}", stderr(&refused));
    assert!(!file.exists());
}

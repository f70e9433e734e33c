//! Clients that mean harm, against the program itself: what they send takes no memory that lasts, and is not written down. What
//! they are answered is shown in `crates/api/tests/answers/hostile.rs`.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use support::{Ebbtide, stderr};

/// What a client would not like to read in somebody's log.
const SECRET: &str = "Wq7xKp9zTr4m";
/// What all of this together may add to the memory of the server; what is sent is ten times that.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
const SENDERS: usize = 64;
const BODY_BYTES: usize = 10 << 20;

/// The most memory that a process has had.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Sends a head and as much of a body as is taken; what is answered. The sending half stays open: who closes it has gone, says
/// the server, and may not be answered any more.
fn send(port: u16, head: &str, body: &[u8], times: usize) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = Vec::new();
    let _ = stream.write_all(head.as_bytes()).is_ok() && (0..times).all(|_| stream.write_all(body).is_ok());
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn at_once(work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        (0..SENDERS).for_each(|number| {
            let work = &work;
            scope.spawn(move || work(number));
        });
    });
}

#[test]
fn what_is_sent_takes_no_memory_that_lasts_and_is_not_written_down() {
    let mut ebbtide = Ebbtide::start_with(&[], &[("EBBTIDE_LOG", "trace")]);
    let (port, project) = (ebbtide.port, ebbtide.project.clone());
    ebbtide.cli(&["cluster", "list"]);
    let before = peak_bytes(ebbtide.pid());

    let target = format!("/api/atlas/v2/groups/{project}/clusters/main/backup/restoreJobs?password={SECRET}");
    let line =
        format!("POST {target} HTTP/1.1\r\nHost: {SECRET}\r\nConnection: close\r\nCookie: {SECRET}\r\n");
    let authorizations = [
        format!("Bearer {SECRET}"),
        format!("Basic {SECRET}"),
        format!(
            "Digest username=\"{SECRET}\", realm=\"MMS Public API\", nonce=\"{SECRET}\", response=\"{SECRET}\""
        ),
        SECRET.to_owned(),
    ];
    let piece = format!("{{\"password\":\"{SECRET}\"}}").repeat(2_000);
    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
    at_once(|number| {
        let authorization = format!("Authorization: {}\r\n", authorizations[number % authorizations.len()]);
        let times = BODY_BYTES / piece.len();
        let answer = if number % 2 == 0 {
            let head = format!("{line}{authorization}Content-Length: {}\r\n\r\n", times * piece.len());
            send(port, &head, piece.as_bytes(), times)
        } else {
            let head = format!("{line}{authorization}Transfer-Encoding: chunked\r\n\r\n");
            // It never says that it ends, and stops when nobody listens any more.
            send(port, &head, chunk.as_bytes(), 4 * times)
        };
        assert!(!answer.contains(SECRET), "an answer repeats a secret: {answer}");
    });
    // Heads that never end, all held open at once.
    let endless: Vec<_> = (0..4 * SENDERS)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(format!("{line}X: {}", SECRET.repeat(4_000)).as_bytes()).unwrap();
            stream
        })
        .collect();
    let form = format!("grant_type=client_credentials&client_id={SECRET}&client_secret={SECRET}");
    let head = format!(
        "POST /api/oauth/token HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n",
        form.len()
    );
    let refused = send(port, &head, form.as_bytes(), 1);
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused:?}");
    let uri = format!("mongodb://me:{SECRET}@127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=100");
    let refused = ebbtide.try_cli(&["cluster", "add", "main", "--uri", &uri]);
    assert!(!refused.status.success() && !stderr(&refused).contains(SECRET), "{}", stderr(&refused));
    ebbtide.cli(&["cluster", "list"]);

    let grown = peak_bytes(ebbtide.pid()) - before;
    drop(endless);
    ebbtide.stop();
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more than before");
    let log = ebbtide.log();
    let line = log.lines().find(|line| line.contains(SECRET) || line.contains("panicked"));
    assert!(line.is_none(), "{line:?}");
    assert!(log.contains("answered"), "the log is a detailed one");
}

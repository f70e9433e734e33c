//! The project's own commands. They need cargo and python3 and nothing else; what they fetch goes into a cache.

mod bench;
mod cache;
mod demo;
mod mongod;
mod python;
mod test;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  demo [--keep] [--data-dir D] [--release]
                     back up and restore a real MongoDB, step by step; --keep leaves everything running
  test [--quick] [--lanes=N] [--threads=N] [FILTER…]
                     run all tests, on real MongoDB servers; --quick: the unit tests only
                     FILTER: a part of the names of tests, or one program, such as ebbtide-engine/capture
                     N programs at a time (processors and one, 2 to 4) with N threads each (2)
  bench [--help] …   measure Ebbtide beside mongodump and mongorestore
  mongod [VERSION…]  fetch MongoDB servers for the tests

Servers and data are kept in $XDG_CACHE_HOME/ebbtide (~/.cache/ebbtide).
$MONGOD names a server for the demo; $EBBTIDE_TEST_MONGODS a directory of mongod-VERSION files for the tests.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["demo", rest @ ..] => demo::run(rest),
        ["test", rest @ ..] => test::run(rest),
        [test::guard::COMMAND, rest @ ..] => test::guard::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["mongod", rest @ ..] => mongod::run(rest).map(|()| ExitCode::SUCCESS),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        [unknown, ..] => {
            eprint!("error: no command {unknown:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

//! `kill -9` at any moment loses no acknowledged change and leaves no half batch.
//!
//! The program runs itself as a child that writes and tells of each acknowledgement on its standard
//! output; the parent kills it after a number of them, opens what it left, and compares.

#![allow(
    clippy::unwrap_used,
    reason = "a test, though with a main function of its own"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use seg_compliance::engine::ImportOptions;
use seg_compliance::record::Patch;
use seg_compliance::{DeviceKey, Engine, Settings, State};

/// Names the store for the child.
const STORE: &str = "SEG_KILL_STORE";
/// Where the child begins to count.
const FROM: &str = "SEG_KILL_FROM";
/// Rounds in which an import is under way: four of five, the first not.
const IMPORTING: u64 = 50;
const ROUNDS: u64 = IMPORTING + IMPORTING.div_ceil(4);
/// Devices that change one at a time.
const SINGLES: u64 = 16;
/// Devices that change together: one batch.
const TOGETHER: u64 = 1_024;
/// Devices from one telling of an import under way to the next.
const STEP: u64 = 256;

fn main() -> ExitCode {
    if let (Some(store), Ok(from)) = (std::env::var_os(STORE), std::env::var(FROM)) {
        write(Path::new(&store), from.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    // Seeded by the process, so that every run kills at other moments.
    let mut seed = u64::from(std::process::id()) | 1;
    for round in 0..ROUNDS {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = Moment {
            importing: round % 5 != 0,
            count: (seed >> 33) % 60 + 1,
        };
        acknowledged.follow_until_killed(folder.path(), at);
        let (engine, recovery) = Engine::open(folder.path(), Settings::default()).unwrap();
        assert_eq!(
            recovery.state,
            State::Synced,
            "round {round}: {:?}",
            recovery.steps
        );
        acknowledged.compare(&engine);
    }
    println!(
        "test kill: {ROUNDS} rounds, {} changes ... ok",
        acknowledged.newest
    );
    ExitCode::SUCCESS
}

/// The child: numbers go up; `one D N` and `all N` are told when durable.
fn write(folder: &Path, from: u64) {
    let (engine, _) = Engine::open(folder, Settings::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut out = std::io::stdout();
        for number in from.. {
            let single = number % SINGLES;
            let device = DeviceKey::new(&format!("one{single}")).unwrap();
            engine.put_record(&device, &said(number)).await.unwrap();
            writeln!(out, "one {single} {number}").unwrap();
            if number % 5 == 0 {
                let mut import = engine.begin_import(ImportOptions::default());
                for device in 0..TOGETHER {
                    if device % STEP == 0 {
                        writeln!(out, "importing").unwrap();
                    }
                    let device = DeviceKey::new(&format!("all{device}")).unwrap();
                    import.push(Ok((device, said(number)))).await.unwrap();
                }
                writeln!(out, "importing").unwrap();
                import.finish().await.unwrap();
                writeln!(out, "all {number}").unwrap();
            }
            if number % 40 == 0 {
                engine.compact_store().await.unwrap();
            }
        }
    });
}

fn said(number: u64) -> Patch {
    Patch {
        reason: Some(Some(number.to_string())),
        ..Patch::default()
    }
}

/// When the child is killed.
#[derive(Clone, Copy)]
struct Moment {
    /// In the middle of an import, else after an acknowledgement.
    importing: bool,
    /// The how manyth.
    count: u64,
}

/// What the child told.
#[derive(Default)]
struct Acknowledged {
    singles: [u64; SINGLES as usize],
    together: u64,
    newest: u64,
}

impl Acknowledged {
    /// Kills the child at a moment; what it managed to tell before it died counts too.
    fn follow_until_killed(&mut self, folder: &Path, at: Moment) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(STORE, folder)
            .env(FROM, (self.newest + 1).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        let mut heard = 0;
        for line in told.lines() {
            let line = line.unwrap();
            self.hear(&line);
            heard += u64::from((line == "importing") == at.importing);
            if heard == at.count {
                child.kill().unwrap();
            }
        }
        assert!(
            !child.wait().unwrap().success(),
            "the child ended by itself"
        );
    }

    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["one", single, number] => {
                let number = number.parse().unwrap();
                self.singles[single.parse::<usize>().unwrap()] = number;
                self.newest = number;
            }
            ["all", number] => self.together = number.parse().unwrap(),
            // A line that the kill cut short acknowledges nothing.
            _ => {}
        }
    }

    fn compare(&self, engine: &Engine) {
        for (single, number) in self.singles.iter().enumerate() {
            let found = number_of(engine, &format!("one{single}"));
            assert!(
                found >= *number,
                "one{single} has {found}, {number} was acknowledged"
            );
        }
        let first = number_of(engine, "all0");
        assert!(
            first >= self.together,
            "{first} together, {} acknowledged",
            self.together
        );
        for device in 1..TOGETHER {
            let found = number_of(engine, &format!("all{device}"));
            assert_eq!(found, first, "half a batch: all{device}");
        }
    }
}

fn number_of(engine: &Engine, device: &str) -> u64 {
    engine
        .device(&DeviceKey::new(device).unwrap(), None)
        .and_then(|device| device.record.reason)
        .map_or(0, |reason| reason.parse().unwrap())
}

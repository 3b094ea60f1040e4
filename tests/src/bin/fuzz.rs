//! `fuzz [--seconds N] [--at-once N] [--seed N] [TARGET…]` gives each target (all without a name) N
//! seconds of mutated corpus, each in a process of its own, so that whatever a finding does to it is
//! noticed; `fuzz replay TARGET FILE` gives a target one input. Exit code 1: a finding; 2: usage.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use seg_tests::fuzz::{self, Limits, TARGETS};

/// An input that takes longer than this is a finding.
const LONGEST_INPUT: Duration = Duration::from_secs(20);

/// What a child ends with when it has panicked, and when an input took too long.
const PANICKED: u8 = 101;
const TOO_LONG: u8 = 102;

/// Last lines of a child's output that are shown.
const SHOWN: usize = 30;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["replay", target, file] => replay(target, Path::new(file)),
        ["one", target, seconds, seed, last] => one(target, seconds, seed, Path::new(last)),
        _ => match Wanted::read(&words) {
            Ok(wanted) => wanted.run(),
            Err(why) => refuse(&why),
        },
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("fuzz: {why}");
    ExitCode::from(2)
}

/// Gives one input to a target, without catching anything.
fn replay(target: &str, file: &Path) -> ExitCode {
    let Some(entry) = fuzz::entry(target) else {
        return refuse(&format!("no target {target}"));
    };
    match std::fs::read(file) {
        Ok(input) => entry(&input),
        Err(error) => return refuse(&format!("{}: {error}", file.display())),
    }
    println!("{target} returns from {}", file.display());
    ExitCode::SUCCESS
}

/// The child: one target.
fn one(target: &str, seconds: &str, seed: &str, last: &Path) -> ExitCode {
    let (Some(entry), Ok(seconds), Ok(seed)) = (fuzz::entry(target), seconds.parse(), seed.parse())
    else {
        return refuse("one TARGET SECONDS SEED FILE");
    };
    let time = Duration::from_secs(seconds);
    std::thread::spawn(move || {
        std::thread::sleep(time + LONGEST_INPUT);
        eprintln!("one input takes longer than {LONGEST_INPUT:?}");
        std::process::exit(i32::from(TOO_LONG));
    });
    match fuzz::run(target, entry, Limits { time, seed }, last) {
        Ok(reached) if reached.panicked => ExitCode::from(PANICKED),
        Ok(reached) => {
            println!("{}", reached.inputs);
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&format!("{target}: {error}")),
    }
}

/// What the command line asks for.
struct Wanted {
    targets: Vec<&'static str>,
    seconds: u64,
    seed: u64,
    at_once: usize,
}

impl Wanted {
    fn read(words: &[&str]) -> Result<Self, String> {
        let mut wanted = Self {
            targets: Vec::new(),
            seconds: 10,
            seed: 1,
            at_once: 2,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || {
                let value = words.next().and_then(|value| value.parse::<u64>().ok());
                value.ok_or_else(|| format!("{word} needs a number"))
            };
            match *word {
                "--seconds" => wanted.seconds = number()?,
                "--seed" => wanted.seed = number()?,
                "--at-once" => {
                    wanted.at_once = usize::try_from(number()?.max(1)).unwrap_or(usize::MAX);
                }
                name => {
                    let known = TARGETS.iter().find(|(target, _)| *target == name);
                    let (name, _) = known.ok_or_else(|| format!("no target {name}"))?;
                    wanted.targets.push(name);
                }
            }
        }
        if wanted.targets.is_empty() {
            wanted.targets = TARGETS.iter().map(|(name, _)| *name).collect();
        }
        Ok(wanted)
    }

    fn run(&self) -> ExitCode {
        let folder = match findings_folder() {
            Ok(folder) => folder,
            Err(error) => return refuse(&format!("no folder for findings: {error}")),
        };
        let queue = Mutex::new(self.targets.iter());
        let next = || queue.lock().ok()?.next().copied();
        let findings: usize = std::thread::scope(|scope| {
            let work = || {
                std::iter::from_fn(next)
                    .filter(|target| !self.survives(target, &folder))
                    .count()
            };
            let threads: Vec<_> = (0..self.at_once.min(self.targets.len()))
                .map(|_| scope.spawn(work))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or(1))
                .sum()
        });
        let (count, seconds, seed) = (self.targets.len(), self.seconds, self.seed);
        println!("{count} targets, {seconds} s each, seed {seed}: {findings} findings");
        ExitCode::from(u8::from(findings > 0))
    }

    /// Runs one target in a child and says how it went.
    fn survives(&self, target: &str, folder: &Path) -> bool {
        let last = folder.join(format!("{target}.input"));
        match self.child(target, folder, &last) {
            Ok((true, said)) => {
                println!("{target:32} {:>9} inputs", said.trim());
                let _ = std::fs::remove_file(&last);
                true
            }
            Ok((false, said)) => {
                let program = std::env::args().next().unwrap_or_default();
                let last = last.display();
                println!(
                    "{target}: FINDING, seed {}\n{said}\ninput:  {last}\n\
                     replay: {program} replay {target} {last}",
                    self.seed
                );
                false
            }
            Err(error) => {
                println!("{target}: can't be run: {error}");
                false
            }
        }
    }

    /// Whether the child has ended well, and the end of what it said.
    fn child(&self, target: &str, folder: &Path, last: &Path) -> std::io::Result<(bool, String)> {
        let log = folder.join(format!("{target}.log"));
        let output = File::create(&log)?;
        let status = Command::new(std::env::current_exe()?)
            .args(["one", target])
            .args([self.seconds.to_string(), self.seed.to_string()])
            .arg(last)
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .status()?;
        let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        if status.success() {
            return Ok((true, said));
        }
        let lines: Vec<&str> = said.lines().collect();
        let end = lines.len().saturating_sub(SHOWN);
        let said = lines.get(end..).unwrap_or_default().join("\n");
        Ok((false, format!("{said}\n{status}")))
    }
}

/// Beside the program, in the build folder.
fn findings_folder() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.with_file_name("fuzz-findings");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

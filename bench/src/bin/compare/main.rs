#![forbid(unsafe_code)]
//! `bench/compare`: the gateway, nginx and HAProxy behind the same load, in turns, on loopback.

mod admin;
mod client;
mod firewall;
mod load;
mod measure;
mod polls;
mod process;
mod proxy;
mod report;
mod requests;
mod spread;
mod streams;
mod webhook;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use seg_bench::Failure;

use load::Pressure;
use measure::Asked;
use proxy::{Kind, Proxy, Stage};
use report::Report;
use requests::Bodies;

/// Measures the gateway beside nginx and HAProxy: TLS on both legs, the same load in turn
#[derive(Parser)]
#[command(name = "bench/compare")]
struct Arguments {
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Measure::Sync, Measure::GetFolder, Measure::Fetch, Measure::Ping, Measure::Cut, Measure::Stream, Measure::Spread, Measure::Firewall])]
    measure: Vec<Measure>,
    /// Which proxies
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    only: Vec<Kind>,
    /// Threads of each proxy; 1 keeps it on a CPU of its own where there is one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    cores: u16,
    /// Turns of each proxy; the middle one counts, and of ratios that of the turns side by side
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Seconds of each turn
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=60))]
    seconds: u16,
    /// Keep-alive connections of the Sync load
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Number of open EWS streams
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u16).range(10..=8000))]
    streams: u16,
    /// Numbers of open Pings, rising
    #[arg(long, value_delimiter = ',', default_values_t = [2000, 8000], value_parser = clap::value_parser!(u16).range(10..=8000))]
    polls: Vec<u16>,
    /// Single blocks among them
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..=2000))]
    blocks: u16,
    /// The gateway; by default the one built beside this program
    #[arg(long)]
    seg: Option<PathBuf>,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Measure {
    /// CPU, rate and latency of small requests
    Sync,
    /// CPU of small EWS requests
    GetFolder,
    /// CPU of 25 MiB answers
    Fetch,
    /// Memory of idle long polls
    Ping,
    /// How soon a block cuts them
    Cut,
    /// Memory of open EWS streams, and how soon a block has cut all of them
    Stream,
    /// CPU of small requests before eight mail servers, beside one
    Spread,
    /// CPU of small requests with the firewall for ActiveSync, beside none
    Firewall,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    match outcome {
        Ok(report) if arguments.json => println!("{:#}", report.json()),
        Ok(report) => print!("{}", report.table()),
        Err(error) => {
            eprintln!("bench/compare: {error}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

async fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let does = |measure| arguments.measure.contains(&measure);
    let polls: Vec<usize> = arguments.polls.iter().copied().map(usize::from).collect();
    if !polls.is_sorted() {
        return Err("the numbers of --polls must rise".into());
    }
    let (does_idle, does_cut) = (
        does(Measure::Ping) || does(Measure::Cut),
        does(Measure::Cut),
    );
    if does_idle {
        enough_files(2 * polls.last().copied().unwrap_or_default() + 500)?;
    }
    if does(Measure::Stream) {
        enough_files(2 * usize::from(arguments.streams) + 500)?;
    }
    let seg = match &arguments.seg {
        Some(seg) => seg.clone(),
        None => std::env::current_exe()?.with_file_name("seg"),
    };
    let (proxy_cpus, other_cpus) = share_cpus(arguments.cores)?;
    let bodies = Bodies::new()?;
    let cores = usize::from(arguments.cores);
    let stage = Stage::set(seg, cores, proxy_cpus, other_cpus.as_deref()).await?;
    let mut report = Report {
        machine: machine(cores),
        versions: versions(),
        ..Report::default()
    };
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| arguments.only.contains(kind))
        .collect();

    if does(Measure::Sync) || does(Measure::Fetch) {
        let mut proxies = Vec::new();
        for &kind in &kinds {
            let proxy = stage
                .proxy(kind)
                .await
                .map_err(|error| explained(&stage, kind, &error))?;
            measure::introduce(&proxy, usize::from(arguments.connections).max(8)).await?;
            proxies.push(proxy);
        }
        together(arguments, &proxies, &bodies, &mut report).await?;
    }
    if does(Measure::GetFolder) {
        let mut proxies = Vec::new();
        for &kind in &kinds {
            let proxy = stage
                .proxy(kind)
                .await
                .map_err(|error| explained(&stage, kind, &error))?;
            // A request that names no device is judged over those of its user: one.
            measure::introduce(&proxy, 1).await?;
            proxies.push(proxy);
        }
        let rounds = usize::from(arguments.rounds);
        let pressure = pressure(arguments);
        report.folders = measure::small(&proxies, Asked::GetFolder, rounds, pressure).await?;
    }
    if does(Measure::Spread) {
        let rounds = usize::from(arguments.rounds);
        let spread = spread::spread(&stage, &bodies, rounds, pressure(arguments)).await;
        report.spread = Some(spread.map_err(|error| explained(&stage, Kind::Seg, &error))?);
    }
    if does(Measure::Firewall) {
        let rounds = usize::from(arguments.rounds);
        let walled = firewall::firewall(&stage, &bodies, rounds, pressure(arguments)).await;
        report.firewall = Some(walled.map_err(|error| explained(&stage, Kind::Seg, &error))?);
    }
    if does(Measure::Stream) {
        for &kind in &kinds {
            let streams = streams::streams(&stage, kind, arguments.streams.into()).await;
            report
                .streams
                .push(streams.map_err(|error| explained(&stage, kind, &error))?);
        }
    }
    if does_idle {
        for &kind in &kinds {
            let singles = does_cut.then_some(usize::from(arguments.blocks));
            let idle = measure::idle(&stage, kind, &bodies, &polls, singles).await;
            report
                .idle
                .push(idle.map_err(|error| explained(&stage, kind, &error))?);
        }
    }
    Ok(report)
}

/// What all proxies do in turns.
async fn together(
    arguments: &Arguments,
    proxies: &[Proxy],
    bodies: &Bodies,
    report: &mut Report,
) -> Result<(), Failure> {
    let rounds = usize::from(arguments.rounds);
    let window = Duration::from_secs(arguments.seconds.into());
    if arguments.measure.contains(&Measure::Sync) {
        let pressure = pressure(arguments);
        report.small = measure::small(proxies, Asked::Sync(bodies), rounds, pressure).await?;
    }
    if arguments.measure.contains(&Measure::Fetch) {
        report.large = measure::large(proxies, bodies, rounds, window).await?;
    }
    Ok(())
}

/// The load of small requests.
fn pressure(arguments: &Arguments) -> Pressure {
    Pressure {
        connections: arguments.connections.into(),
        warm_up: Duration::from_secs(1),
        window: Duration::from_secs(arguments.seconds.into()),
    }
}

/// A failure with what the program itself complained of.
fn explained(stage: &Stage, kind: Kind, error: &Failure) -> Failure {
    let complaints = stage.complaints(kind.name());
    let tail: Vec<&str> = complaints.lines().rev().take(5).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    format!("{}: {error}\n{}", kind.name(), tail.join("\n")).into()
}

/// Gives the first CPU to the proxy under test and the others to this process and the sandbox. With
/// more threads, or a single CPU, everybody shares.
fn share_cpus(cores: u16) -> Result<(Option<String>, Option<String>), Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpus: Vec<u32> = list
        .into_iter()
        .flat_map(|list| list.trim().split(','))
        .flat_map(cpu_range)
        .collect();
    let [first, others @ ..] = cpus.as_slice() else {
        return Ok((None, None));
    };
    if cores > 1 || others.is_empty() {
        return Ok((None, None));
    }
    let others: Vec<String> = others.iter().map(u32::to_string).collect();
    let others = others.join(",");
    let own = std::process::id().to_string();
    let moved = Command::new("taskset")
        .args(["-apc", &others, &own])
        .output()?;
    if !moved.status.success() {
        return Err(format!("taskset: {}", String::from_utf8_lossy(&moved.stderr)).into());
    }
    Ok((Some(first.to_string()), Some(others)))
}

/// `0-3` or `5`, as the kernel writes CPUs.
fn cpu_range(text: &str) -> std::ops::Range<u32> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u32>(), last.parse::<u32>()) {
        (Ok(first), Ok(last)) => first..last.saturating_add(1),
        _ => 0..0,
    }
}

/// The limit of open files must hold two sockets a poll; children inherit it.
fn enough_files(needed: usize) -> Result<(), Failure> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<usize>().ok());
    match soft {
        Some(soft) if soft < needed => Err(format!(
            "{soft} open files are allowed, {needed} needed; mend: ulimit -n {needed}, or fewer --polls"
        )
        .into()),
        _ => Ok(()),
    }
}

fn machine(cores: usize) -> String {
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown CPU", |line| {
        line.trim_start_matches(['\t', ' ', ':'])
    });
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{model}, Linux {}, threads of each proxy: {cores}, CPUs of the load: {cpus}",
        kernel.trim()
    )
}

fn versions() -> Vec<String> {
    let said = |program: &str| {
        let output = Command::new(program).arg("-v").output().ok()?;
        // nginx says it on standard error.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        Some(said.lines().next()?.trim().to_owned())
    };
    ["nginx", "haproxy"].into_iter().filter_map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_cpu_lists_are_read() {
        let read = |list: &str| list.split(',').flat_map(cpu_range).collect::<Vec<_>>();
        assert_eq!(read("0-1"), [0, 1]);
        assert_eq!(read("0,2-3"), [0, 2, 3]);
        assert_eq!(read(""), Vec::<u32>::new());
    }
}

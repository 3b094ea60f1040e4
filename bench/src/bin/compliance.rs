#![forbid(unsafe_code)]
//! `bench/compliance`: what a million devices cost: import, memory, cold start, verdict.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use dashmap::DashMap;
use seg_bench::{Failure, median, percentile};
use seg_compliance::engine::ImportOptions;
use seg_compliance::record::ndjson;
use seg_compliance::{
    Admission, Ask, Decision, DeviceKey, Engine, Protocol, Settings, UserKey, Verdict, Via,
};
use serde_json::{Value, json};

// As in the gateway, because the bytes of a device are the allocator's too.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Names that are made at a time, while the clock stands: they lie in the first caches when the
/// engine is asked, as those of a request do, and what is timed is the engine's own work.
const BATCH: usize = 256;
/// Passes over all devices; what is reported is the one in the middle.
const PASSES: usize = 7;
/// Lines of the import that are made at a time.
const LINES: usize = 4096;
/// A device as one number, scattered: a multiplier that is coprime to every power of two.
const SCATTER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Measures import, memory, cold start and verdicts with many devices
#[derive(Parser)]
#[command(name = "bench/compliance")]
struct Arguments {
    /// Devices
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    devices: u32,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Opens this store, made by an import of as many devices, and reports: a start of its own
    #[arg(long, hide = true)]
    cold_start: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let devices = arguments.devices as usize;
    let outcome = match &arguments.cold_start {
        Some(folder) => cold_start(folder, devices).map(|found| println!("{found}")),
        None => run(devices, arguments.json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench/compliance: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(devices: usize, as_json: bool) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("seg-bench-").tempdir()?;
    let (seconds, mut meanwhile) = import(folder.path(), devices)?;
    eprintln!("  imported in {seconds:.1} s");
    let during = [0.5, 0.99, 1.0].map(|share| percentile(&mut meanwhile, share));

    // A process of its own: nothing of the import is left in its memory.
    let output = Command::new(std::env::current_exe()?)
        .args(["--devices", &devices.to_string(), "--cold-start"])
        .arg(folder.path())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the cold start: {}", said.trim()).into());
    }
    let mut found: Value = serde_json::from_slice(&output.stdout)?;
    found["devices"] = json!(devices);
    found["import_s"] = json!(seconds);
    found["verdict_during_import_us"] =
        json!({"p50": during[0], "p99": during[1], "most": during[2]});
    if as_json {
        println!("{found:#}");
    } else {
        print(&found);
    }
    Ok(())
}

fn print(found: &Value) {
    let number = |key: &str| found[key].as_f64().unwrap_or_default();
    println!("{} devices", found["devices"]);
    println!("| what | | first | goal | |\n|---|--:|--:|--:|---|");
    let rows = [
        ("import, journalled, s", "import_s", 15.0, 5.0),
        ("resident bytes a device", "bytes_a_device", 600.0, 400.0),
        ("cold start, s", "cold_start_s", 3.0, 2.0),
        ("verdict, ns", "verdict_ns", 1000.0, 300.0),
    ];
    for (name, key, first, goal) in rows {
        let value = number(key);
        let word = if value <= goal {
            "goal reached"
        } else if value <= first {
            "first reached"
        } else {
            "NOT reached"
        };
        println!("| {name} | {value:.1} | {first} | {goal} | {word} |");
    }
    let rows = [
        (
            "the same devices looked up in a DashMap, ns",
            "map_look_up_ns",
        ),
        ("verdict and lease, ns", "admit_ns"),
        ("reload of ten policies, ms", "policies_reload_ms"),
        (
            "verdict after it, judged anew, ns (bound: 5,000)",
            "judged_anew_ns",
        ),
        ("verdict after that, remembered, ns", "remembered_ns"),
        ("plan of ten policies over every device, s", "plan_s"),
    ];
    for (name, key) in rows {
        println!("| {name} | {:.1} | – | – | |", number(key));
    }
    println!(
        "| journal on disk, MB | {:.1} | – | – | |",
        number("disk_mb")
    );
    let during = &found["verdict_during_import_us"];
    let micros = |key: &str| during[key].as_f64().unwrap_or_default();
    println!(
        "| verdict while the import runs, µs: p50, p99, most | {:.2}, {:.2}, {:.0} | – | – | |",
        micros("p50"),
        micros("p99"),
        micros("most")
    );
}

/// Imports so many records as the admin API does. Answers the seconds, and the microseconds of
/// verdicts that another thread asked for meanwhile.
fn import(folder: &Path, devices: usize) -> Result<(f64, Vec<f64>), Failure> {
    let (engine, _) = Engine::open(folder, Settings::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let over = AtomicBool::new(false);
    let (imported, meanwhile) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_meanwhile(&engine, devices, &over));
        let imported = runtime.block_on(import_all(&engine, devices));
        over.store(true, Ordering::Relaxed);
        (imported, asking.join())
    });
    let meanwhile = meanwhile.map_err(|_| "the thread that asks for verdicts panicked")??;
    Ok((imported?, meanwhile))
}

async fn import_all(engine: &Engine, devices: usize) -> Result<f64, Failure> {
    let began = Instant::now();
    let mut import = engine.begin_import(ImportOptions::default());
    let mut reader = ndjson::Reader::new();
    let mut lines = Vec::new();
    for first in (0..devices).step_by(LINES) {
        let text: String = (first..devices.min(first + LINES)).map(record).collect();
        reader.feed(text.as_bytes(), &mut |line| lines.push(line));
        for line in lines.drain(..) {
            import.push(line).await?;
        }
    }
    let result = import.finish().await?;
    let took = began.elapsed().as_secs_f64();
    if result.applied != devices as u64 {
        let applied = result.applied;
        return Err(format!("{applied} of {devices} records were applied").into());
    }
    Ok(took)
}

/// A thousand verdicts a second, timed.
fn ask_meanwhile(engine: &Engine, devices: usize, over: &AtomicBool) -> Result<Vec<f64>, Failure> {
    let mut micros = Vec::new();
    let mut number = 0_usize;
    while !over.load(Ordering::Relaxed) {
        let (device, user) = keys(scattered(number, devices))?;
        number += 1;
        let began = Instant::now();
        std::hint::black_box(engine.decide(&ask(&device, &user)));
        micros.push(began.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(micros)
}

/// Opens the store and measures what came up.
fn cold_start(folder: &Path, devices: usize) -> Result<Value, Failure> {
    let before = private_bytes()?;
    let began = Instant::now();
    let (engine, recovery) = Engine::open(folder, Settings::default())?;
    let cold_start = began.elapsed().as_secs_f64();
    // The allocator gives back what reading the journal took.
    std::thread::sleep(Duration::from_secs(2));
    let bytes = private_bytes()?.saturating_sub(before);
    if !recovery.steps.is_empty() {
        return Err(format!("the store was damaged: {:?}", recovery.steps).into());
    }

    let order = scattered_order(devices);
    let (verdict, look_up) = beside_a_map(&engine, &order)?;
    let since = seg_compliance::clock::Clock::now(&seg_compliance::clock::SystemClock);
    let admit = passes(&order, |ask, _, token| {
        match engine.admit(ask, 0, token, since, None) {
            Admission::Granted(lease, decision) => {
                drop(lease);
                is_allowed(&decision)
            }
            Admission::Denied(decision) => is_allowed(&decision),
        }
    })?;
    let plan = plan(&engine, devices)?;
    let (reload, judged_anew, remembered) = under_policies(&engine, &order)?;
    Ok(json!({
        "plan_s": plan,
        "policies_reload_ms": reload,
        "judged_anew_ns": judged_anew,
        "remembered_ns": remembered,
        "cold_start_s": cold_start,
        "bytes_a_device": bytes as f64 / devices as f64,
        "verdict_ns": verdict,
        "map_look_up_ns": look_up,
        "admit_ns": admit,
        "disk_mb": size(folder)? as f64 / 1e6,
    }))
}

/// Bytes that the map beside holds of a device: with the name, about what the engine does.
const BESIDE: usize = 208;

/// Verdicts of every device, and the same devices looked up in a `DashMap`, in turns: how long
/// memory takes is the machine's and changes by the minute, and a verdict is mostly that. Answers
/// the nanoseconds of both.
fn beside_a_map(engine: &Engine, order: &[u32]) -> Result<(f64, f64), Failure> {
    let map = DashMap::with_hasher(ahash::RandomState::new());
    for &number in order {
        let (device, _) = keys(number as usize)?;
        map.insert(device, [1_u8; BESIDE]);
    }
    let (mut verdicts, mut looks) = (Vec::new(), Vec::new());
    for _ in 0..PASSES {
        verdicts.push(each(order, |ask, _, _| is_allowed(&engine.decide(ask)))?);
        looks.push(each(order, |_, device, _| {
            map.get(device).is_some_and(|held| held[0] == 1)
        })?);
    }
    Ok((median(&verdicts), median(&looks)))
}

/// A fleet's policies: flags, versions, lists, times, a network and CEL.
const POLICIES: &str = r#"
[[policy]]
id = "compromised"
when = { compromised = true }
action = "block"
[[policy]]
id = "encrypted"
when = { encrypted = false }
action = "block"
[[policy]]
id = "old"
when = { os_minimum = { ios = "15", android = "12", windows = "10.0.19045" } }
action = "block"
[[policy]]
id = "silent"
when = { inactive_days = 30000 }
action = "block"
[[policy]]
id = "apps"
when = { app_installed = ["com.example.a", "com.example.b"] }
action = "block"
[[policy]]
id = "models"
when = { model = ["iPad1*", "iPhone3*"], ownership = "personal" }
action = "quarantine"
[[policy]]
id = "contractors"
when = { group = "Contractors", window = { from = "18:00", to = "07:00" } }
action = "block"
[[policy]]
id = "cel"
when = { cel = "device.platform == 'ios' && version(device.os_version) < version('14.8') && !('VIP' in device.groups)" }
action = "block"
[[policy]]
id = "clients"
when = { user_agent = "curl*" }
action = "block"
[[policy]]
id = "outside"
when = { group = "Inside-Only", network_not = "10.0.0.0/8" }
action = "block"
"#;

/// Asks what the policies would change. Answers the seconds.
fn plan(engine: &Engine, devices: usize) -> Result<f64, Failure> {
    let policies = seg_compliance::Policies::parse(POLICIES)?;
    let began = Instant::now();
    let plan = engine.plan_policies(policies, 0);
    let took = began.elapsed().as_secs_f64();
    if plan.devices != devices as u64 {
        return Err(format!("{} of {devices} devices are planned", plan.devices).into());
    }
    Ok(took)
}

/// Puts policies in force, and judges every device twice: anew, and as it is remembered then.
/// Answers milliseconds of the reload, nanoseconds of a verdict each.
fn under_policies(engine: &Engine, order: &[u32]) -> Result<(f64, f64, f64), Failure> {
    let policies = seg_compliance::Policies::parse(POLICIES)?;
    let began = Instant::now();
    engine.configure(engine.settings(), policies, &[]);
    let reload = began.elapsed().as_secs_f64() * 1e3;
    let decide = |ask: &Ask<'_>, _: &DeviceKey, _| is_allowed(&engine.decide(ask));
    let judged_anew = each(order, decide)?;
    let remembered = passes(order, decide)?;
    Ok((reload, judged_anew, remembered))
}

/// Another device than the one before, far away in memory.
fn scattered(number: usize, devices: usize) -> usize {
    ((number as u64).wrapping_mul(SCATTER) % devices.max(1) as u64) as usize
}

/// Every device once, in an order that no cache and no prefetcher knows.
fn scattered_order(devices: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..u32::try_from(devices).unwrap_or(u32::MAX)).collect();
    for (number, left) in (2..=order.len()).rev().enumerate() {
        // The high half of the product: the low bits of a scattered number are not scattered.
        let scattered = (number as u64 + 1).wrapping_mul(SCATTER).rotate_left(32);
        let scattered = (scattered ^ SCATTER).wrapping_mul(SCATTER);
        let other = (u128::from(scattered) * left as u128) >> 64;
        order.swap(left - 1, other as usize);
    }
    order
}

/// Nanoseconds of one call: the middle of several passes over every device.
fn passes(
    order: &[u32],
    mut call: impl FnMut(&Ask<'_>, &DeviceKey, u64) -> bool,
) -> Result<f64, Failure> {
    let passes: Vec<f64> = (0..PASSES)
        .map(|_| each(order, &mut call))
        .collect::<Result<_, _>>()?;
    Ok(median(&passes))
}

/// Nanoseconds of one call, over every device of `order`. The call is given device, user, and the
/// number of the call; it says whether its answer was right.
fn each(
    order: &[u32],
    mut call: impl FnMut(&Ask<'_>, &DeviceKey, u64) -> bool,
) -> Result<f64, Failure> {
    let (mut took, mut wrong, mut number) = (Duration::ZERO, 0_usize, 0);
    let mut names = Vec::with_capacity(BATCH);
    for batch in order.chunks(BATCH) {
        names.clear();
        for &device in batch {
            names.push(keys(device as usize)?);
        }
        let asks: Vec<_> = names
            .iter()
            .map(|(device, user)| ask(device, user))
            .collect();
        let began = Instant::now();
        for (ask, (device, _)) in asks.iter().zip(&names) {
            wrong += usize::from(!call(ask, device, number));
            number += 1;
        }
        took += began.elapsed();
    }
    if wrong > 0 {
        return Err(format!("{wrong} of {} devices are not allowed", order.len()).into());
    }
    Ok(took.as_secs_f64() * 1e9 / order.len().max(1) as f64)
}

fn is_allowed(decision: &Decision) -> bool {
    decision.verdict == Verdict::Allow
}

/// The id of a device, 32 digits that don't follow each other.
fn device_id(number: usize) -> String {
    let scattered = (number as u64).wrapping_mul(SCATTER);
    format!("{scattered:016X}{number:016X}")
}

/// Three devices a user.
fn user(number: usize) -> String {
    format!("user{}@corp.example", number / 3)
}

fn keys(number: usize) -> Result<(DeviceKey, UserKey), Failure> {
    Ok((
        DeviceKey::new(&device_id(number))?,
        UserKey::new(&user(number))?,
    ))
}

fn ask<'a>(device: &'a DeviceKey, user: &'a UserKey) -> Ask<'a> {
    Ask {
        device: Some(device),
        user: Some(user),
        agent: "Apple-iPhone15C2/2205.92",
        device_type: "iPhone",
        protocol: Protocol::Eas,
        command: "Sync",
        via: Via::default(),
    }
}

/// A record with the facts that management systems report.
fn record(number: usize) -> String {
    let (device, user) = (device_id(number), user(number));
    let (major, minor) = (15 + number % 4, number % 7);
    format!(
        "{{\"device_id\":\"{device}\",\"user\":\"{user}\",\"managed\":true,\"compliant\":true,\"compromised\":false,\
         \"encrypted\":true,\"platform\":\"ios\",\"model\":\"iPhone{major},{minor}\",\"os_version\":\"{major}.{minor}\",\
         \"last_seen\":\"2026-11-22T09:{:02}:{:02}Z\",\"ownership\":\"corporate\",\"groups\":[\"Mobile-Mail-Users\"]}}\n",
        number / 60 % 60,
        number % 60
    )
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            size(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

/// Our own private resident bytes.
fn private_bytes() -> Result<u64, Failure> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let kilobytes = rollup
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .sum::<u64>();
    Ok(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_holds_every_device_once() {
        let order = scattered_order(10_000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10_000).collect::<Vec<u32>>());
        // Neighbours in the order lie far apart: a third of all places on average.
        let apart: u64 = order
            .windows(2)
            .map(|pair| u64::from(pair[0].abs_diff(pair[1])))
            .sum();
        assert!((3_000..3_700).contains(&(apart / 10_000)), "{apart}");
    }

    #[test]
    fn records_are_good_lines_of_devices_of_their_own() {
        let text: String = (0..100).map(record).collect();
        let (mut good, mut bad) = (std::collections::HashSet::new(), Vec::new());
        ndjson::Reader::new().feed(text.as_bytes(), &mut |line| match line {
            Ok((device, _)) => drop(good.insert(device)),
            Err(line) => bad.push(line.message),
        });
        assert_eq!(bad, Vec::<String>::new());
        assert_eq!(good.len(), 100);
    }
}

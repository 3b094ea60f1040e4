#![forbid(unsafe_code)]
//! `bench/wbxml`: how fast a large Sync answer is decoded, to XML text and as events, beside
//! Debian's libwbxml on the same bytes; how fast content rules change it, and links in HTML.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use seg_bench::{Failure, median, megabytes_a_second, time};
use seg_eas::content::{self, Action, Attachments, Links, Rule, Scope, Sealed, Template, TooLarge};
use seg_eas::wbxml::text::decode_to_xml;
use seg_eas::wbxml::{Error, Event, Limits, Reader};

/// The sandbox's Sync answer with three mails, made by libwbxml.
const THREE_MAILS: &[u8] =
    include_bytes!("../../../../seg-core/src/sandbox/eas/recorded/answer-sync-mail.wbxml");
/// The program that runs libwbxml; Debian's package has no bindings for Rust, and needs none here.
const PEER: &str = include_str!("libwbxml.c");
/// The texts of the second and the third mail.
const TEXTS: [&str; 2] = [
    "The invoice is attached.",
    "See https://sandbox.example/menu for lunch.",
];
/// How often a text follows itself where mails are to be as long as people's: about 1 KB.
const LONG: [usize; 2] = [32, 18];
/// The first mail begins at this depth: Sync, Collections, Collection, Commands, Add.
const ADD_DEPTH: usize = 5;
/// What is to be reached beside libwbxml, text to text; and the events' MB/s.
const FIRST: f64 = 5.0;
const GOAL: f64 = 20.0;
const GOAL_EVENTS: f64 = 1000.0;
/// MB/s of content rules that change elements only, and of links in HTML.
const GOAL_EDITS: f64 = 200.0;
const GOAL_HTML: f64 = 120.0;

/// Measures the decoding of a large Sync answer beside libwbxml
#[derive(Parser)]
#[command(name = "bench/wbxml")]
struct Arguments {
    /// Length of the answer, at least, in bytes
    #[arg(long, default_value_t = 99_000, value_parser = clap::value_parser!(u32).range(1000..=50_000_000))]
    bytes: u32,
    /// Turns of each; the middle one counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench/wbxml: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let bytes = arguments.bytes as usize;
    let folder = tempfile::tempdir()?;
    let messages = [
        ("mails of 1 KB", many_mails(bytes, LONG)?),
        ("mails of a line", many_mails(bytes, [1, 1])?),
    ];
    let mut found = Vec::new();
    for (name, message) in &messages {
        let peer = Peer::build(folder.path(), message)?;
        found.push(measure(name, message, &peer, arguments.rounds)?);
    }
    let html = html_speed(bytes, arguments.rounds, "Have a look")?;
    let shown = html_speed(bytes, arguments.rounds, "www.shop.example")?;
    if arguments.json {
        let mut found: Vec<_> = found.iter().map(Found::json).collect();
        found.push(serde_json::json!({
            "html_links_mb_s": html, "html_goal_reached": html >= GOAL_HTML,
            "html_addresses_in_text_mb_s": shown,
        }));
        println!("{:#}", serde_json::Value::Array(found));
        return Ok(());
    }
    println!("| Sync answer | what | MB/s | × libwbxml | |");
    println!("|---|---|--:|--:|---|");
    for found in &found {
        found.print();
    }
    println!(
        "| HTML of a newsletter | links rewritten | {html:.0} | | goal ({GOAL_HTML} MB/s) {} |",
        word(html >= GOAL_HTML)
    );
    println!("| the same with addresses in its text | links rewritten | {shown:.0} | | |");
    Ok(())
}

/// The speeds in one message, in MB/s.
struct Found {
    name: String,
    version: String,
    library: f64,
    text: f64,
    events: f64,
    edits: f64,
}

/// In turns, because the machine is not the same from one second to the next.
fn measure(name: &str, message: &[u8], peer: &Peer, rounds: u16) -> Result<Found, Failure> {
    let (mut events, mut text, mut library) = (Vec::new(), Vec::new(), Vec::new());
    let (rule, mut edits) = (no_attachments(), Vec::new());
    if content::answered(&[&rule], message, false, &|_| None, &|_| {
        content::Whole::Unseen
    })?
    .body
    .is_none()
    {
        return Err("the rule finds no attachment in the answer".into());
    }
    let name = format!(
        "{} bytes, {} events, {name}",
        message.len(),
        count_events(message)?
    );
    for round in 1..=rounds {
        eprintln!("  {name}: round {round} of {rounds}");
        let speed = |each| megabytes_a_second(message.len(), each);
        let stretch = Duration::from_millis(100);
        events.push(speed(time(3, stretch, || count_events(message))));
        text.push(speed(time(3, stretch, || {
            decode_to_xml(message, &Limits::TRAFFIC)
        })));
        edits.push(speed(time(3, stretch, || {
            content::answered(&[&rule], message, false, &|_| None, &|_| {
                content::Whole::Unseen
            })
        })));
        library.push(speed(peer.time(Duration::from_millis(400))?));
    }
    Ok(Found {
        name,
        version: peer.version.clone(),
        library: median(&library),
        text: median(&text),
        events: median(&events),
        edits: median(&edits),
    })
}

impl Found {
    fn json(&self) -> serde_json::Value {
        let ratio = self.text / self.library;
        serde_json::json!({
            "message": self.name, "libwbxml": self.version, "libwbxml_text_mb_s": self.library,
            "text_mb_s": self.text, "events_mb_s": self.events, "text_ratio": ratio,
            "first_reached": ratio >= FIRST, "goal_reached": ratio >= GOAL,
            "events_goal_reached": self.events >= GOAL_EVENTS,
            "edits_mb_s": self.edits, "edits_goal_reached": self.edits >= GOAL_EDITS,
        })
    }

    fn print(&self) {
        let (name, ratio) = (&self.name, self.text / self.library);
        println!(
            "| {name} | libwbxml {}, to XML text | {:.0} | 1.0 | |",
            self.version, self.library
        );
        println!(
            "| | seg-eas, to XML text | {:.0} | {ratio:.1} | first ({FIRST}×) {}, goal ({GOAL}×) {} |",
            self.text,
            word(ratio >= FIRST),
            word(ratio >= GOAL)
        );
        println!(
            "| | seg-eas, as events | {:.0} | {:.1} | goal ({GOAL_EVENTS} MB/s) {} |",
            self.events,
            self.events / self.library,
            word(self.events >= GOAL_EVENTS)
        );
        println!(
            "| | seg-eas, attachments taken out | {:.0} | {:.1} | goal ({GOAL_EDITS} MB/s) {} |",
            self.edits,
            self.edits / self.library,
            word(self.edits >= GOAL_EDITS)
        );
    }
}

const fn word(reached: bool) -> &'static str {
    if reached { "reached" } else { "NOT reached" }
}

/// A rule that takes every attachment out.
fn no_attachments() -> Rule {
    Rule {
        attachments: Some(Attachments {
            action: Action::Remove,
            extensions: Vec::new(),
            types: Vec::new(),
            larger_than: None,
            sender_domains: Vec::new(),
            recipient_domains: Vec::new(),
            text: "[{name} was removed]".to_owned(),
        }),
        ..rule("no-attachments")
    }
}

fn rule(id: &str) -> Rule {
    Rule {
        id: id.to_owned(),
        scope: Scope::default(),
        except: Scope::default(),
        attachments: None,
        links: None,
        classified: None,
        sealed: Sealed::Leave,
        too_large: TooLarge::Withhold,
    }
}

/// Links rewritten in HTML as newsletters have it: a link in every second row of a table, with this
/// text.
fn html_speed(bytes: usize, rounds: u16, text: &str) -> Result<f64, Failure> {
    let row = "<tr class=\"row\"><td style=\"padding:4px;font-family:Arial\">Offer of the week, \
               only here and only now.</td></tr>\n<tr><td><a href=\"https://shop.example/offers?\
               id=17&amp;from=mail\" style=\"color:#336699\">TEXT</a></td></tr>\n"
        .replace("TEXT", text);
    let html = format!(
        "<html><body><table>{}</table></body></html>",
        row.repeat(bytes.div_ceil(row.len()))
    );
    let links = Links {
        template: Template::try_from("https://safe.example/?u={url_encoded}".to_owned())?,
        domains: None,
        except_domains: Vec::new(),
    };
    if links.in_html(&html, false).is_none() {
        return Err("no link was rewritten".into());
    }
    let mut speeds = Vec::new();
    for _ in 0..rounds {
        let each = time(3, Duration::from_millis(100), || {
            links.in_html(&html, false)
        });
        speeds.push(megabytes_a_second(html.len(), each));
    }
    Ok(median(&speeds))
}

/// The three mails, the last two of them repeated until the answer is so long, their texts so many
/// times as long. Between the ends of two mails the code page is the same, so the stretch can
/// follow itself.
fn many_mails(bytes: usize, times: [usize; 2]) -> Result<Vec<u8>, Failure> {
    let ends = ends_of_mails(THREE_MAILS)?;
    let (Some(&first), Some(&last)) = (ends.first(), ends.last()) else {
        return Err("the recorded answer has no mails".into());
    };
    let mut stretch = THREE_MAILS.get(first..last).unwrap_or_default().to_vec();
    for (text, times) in TEXTS.into_iter().zip(times) {
        let at = memchr::memmem::find(&stretch, text.as_bytes());
        let at = at.ok_or_else(|| format!("the recorded answer lacks \"{text}\""))?;
        stretch.splice(at..at + text.len(), text.repeat(times).into_bytes());
    }
    let mut message = THREE_MAILS.get(..last).unwrap_or_default().to_vec();
    while message.len() < bytes {
        message.extend_from_slice(&stretch);
    }
    message.extend_from_slice(THREE_MAILS.get(last..).unwrap_or_default());
    Ok(message)
}

/// Where each Add ends.
fn ends_of_mails(message: &[u8]) -> Result<Vec<usize>, Error> {
    let mut reader = Reader::new(message, Limits::TRAFFIC)?;
    let (mut depth, mut ends) = (0, Vec::new());
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Start(_) => depth += 1,
            Event::End => {
                if depth == ADD_DEPTH {
                    ends.push(reader.offset());
                }
                depth -= 1;
            }
            _ => {}
        }
    }
    Ok(ends)
}

/// Reads every event; their number, so that nothing can be left out.
fn count_events(message: &[u8]) -> Result<usize, Error> {
    let mut reader = Reader::new(message, Limits::TRAFFIC)?;
    let mut count = 0;
    while let Some(event) = reader.next_event()? {
        count += 1;
        std::hint::black_box(event);
    }
    Ok(count)
}

/// libwbxml, in a program of its own.
struct Peer {
    program: std::path::PathBuf,
    input: std::path::PathBuf,
    version: String,
}

impl Peer {
    fn build(folder: &Path, message: &[u8]) -> Result<Self, Failure> {
        let source = folder.join("libwbxml.c");
        let (program, input) = (folder.join("libwbxml"), folder.join("message.wbxml"));
        fs::write(&source, PEER)?;
        fs::write(&input, message)?;
        let built = Command::new("cc")
            .args(["-O2", "-I/usr/include/libwbxml-1.0", "-o"])
            .args([&program, &source])
            .arg("-lwbxml2")
            .status()
            .map_err(|error| format!("cc: {error}"))?;
        if !built.success() {
            return Err(
                "cc can't build libwbxml's side; mend: apt-get install libwbxml2-dev".into(),
            );
        }
        let version = Command::new("dpkg-query")
            .args(["-W", "-f=${Version}", "libwbxml2-1"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        Ok(Self {
            program,
            input,
            version: version.unwrap_or_else(|_| "of unknown version".to_owned()),
        })
    }

    /// How long one decoding takes.
    fn time(&self, at_least: Duration) -> Result<Duration, Failure> {
        let output = Command::new(&self.program)
            .arg(&self.input)
            .arg(at_least.as_secs_f64().to_string())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let mut words = said.split_ascii_whitespace();
        let calls: f64 = words.next().unwrap_or_default().parse().map_err(|_| {
            format!(
                "libwbxml: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )
        })?;
        let seconds: f64 = words.next().unwrap_or_default().parse()?;
        Ok(Duration::from_secs_f64(seconds / calls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_answer_is_well_formed_and_holds_the_mails() {
        let ends = ends_of_mails(THREE_MAILS);
        assert_eq!(ends.as_ref().map(Vec::len), Ok(3));
        for (times, mails) in [([1, 1], 400..450), (LONG, 90..110)] {
            let long = many_mails(99_000, times).unwrap_or_default();
            assert!((99_000..102_000).contains(&long.len()), "{}", long.len());
            let ends = ends_of_mails(&long).map(|ends| ends.len());
            assert!(
                ends.as_ref().is_ok_and(|count| mails.contains(count)),
                "{ends:?}"
            );
        }
    }
}

#![forbid(unsafe_code)]
//! `bench/soap`: how fast EWS requests are read and judged by `[ews]`, whole and in pieces.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use seg_bench::{Failure, median, megabytes_a_second, time};
use seg_ews::policy::{ClientClass, Policy};
use seg_ews::{Envelope, Limits, Reject, Scanner, classify};

/// A piece of a body, as TLS hands them over.
const PIECE: usize = 512;

/// Measures the scanning of SOAP requests
#[derive(Parser)]
#[command(name = "bench/soap")]
struct Arguments {
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
            eprintln!("bench/soap: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let limits = Limits::default();
    let policy = Policy::default();
    let rules = policy.of(ClientClass::Native);
    let judged = |envelope: Result<Envelope, Reject>| {
        let judged = envelope.map(|envelope| rules.judge(&envelope, "alice", |_| true).is_ok());
        judged.unwrap_or_default()
    };
    let bodies = [
        ("GetItem, 1.4 KB", get_item(3)),
        ("GetItem, 64 KB", get_item(340)),
        ("CreateItem with 1 MB of MIME", create_item(1_000_000)),
    ];
    let mut found = Vec::new();
    for (name, body) in &bodies {
        let body = body.as_bytes();
        let operation = classify(body, &limits)?.operation;
        if !judged(classify(body, &limits)) {
            return Err(format!("{name}: denied").into());
        }
        let pieces = in_pieces(body, &limits)?.operation;
        if operation != pieces {
            return Err(format!("{name}: whole and in pieces are not the same").into());
        }
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        for round in 1..=arguments.rounds {
            eprintln!("  {name}: round {round} of {}", arguments.rounds);
            let stretch = Duration::from_millis(50);
            let micros = |each: Duration| each.as_secs_f64() * 1e6;
            whole.push(micros(time(3, stretch, || judged(classify(body, &limits)))));
            pieces.push(micros(time(3, stretch, || {
                judged(in_pieces(body, &limits))
            })));
        }
        found.push((*name, body.len(), median(&whole), median(&pieces)));
    }
    if arguments.json {
        let rows: Vec<_> = found
            .iter()
            .map(|(name, bytes, whole, pieces)| {
                serde_json::json!({"name": name, "bytes": bytes, "whole_us": whole, "pieces_us": pieces})
            })
            .collect();
        println!("{:#}", serde_json::Value::Array(rows));
        return Ok(());
    }
    println!(
        "| request | bytes | whole, µs | whole, MB/s | in pieces of {PIECE} bytes, µs | MB/s |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, bytes, whole, pieces) in found {
        let speed = |micros: f64| megabytes_a_second(bytes, Duration::from_secs_f64(micros / 1e6));
        println!(
            "| {name} | {bytes} | {whole:.1} | {:.0} | {pieces:.1} | {:.0} |",
            speed(whole),
            speed(pieces)
        );
    }
    Ok(())
}

/// As the gateway reads a body that is still arriving.
fn in_pieces(body: &[u8], limits: &Limits) -> Result<Envelope, Reject> {
    let mut scanner = Scanner::new(limits.clone());
    for piece in body.chunks(PIECE) {
        scanner.feed(piece)?;
    }
    scanner.finish()
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">\
         <s:Header><t:RequestServerVersion Version=\"Exchange2016\"/>\
         <t:TimeZoneContext><t:TimeZoneDefinition Id=\"W. Europe Standard Time\"/></t:TimeZoneContext></s:Header>\
         <s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn get_item(items: usize) -> String {
    let ids: String = (0..items)
        .map(|number| {
            let id = format!("AAMkADNlMzE{number:08}").repeat(7);
            format!("<t:ItemId Id=\"{id}\" ChangeKey=\"CQAAABYAAAAw{number:08}\"/>")
        })
        .collect();
    envelope(&format!(
        "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:IncludeMimeContent>false</t:IncludeMimeContent>\
         <t:AdditionalProperties><t:FieldURI FieldURI=\"item:Subject\"/><t:FieldURI FieldURI=\"item:DateTimeReceived\"/>\
         <t:FieldURI FieldURI=\"message:From\"/></t:AdditionalProperties></m:ItemShape>\
         <m:ItemIds>{ids}</m:ItemIds></m:GetItem>"
    ))
}

fn create_item(bytes: usize) -> String {
    let mime = "TWVldCBtZSBhdCB0aGUgdXN1YWwgcGxhY2UuDQo=\n".repeat(bytes / 41);
    envelope(&format!(
        "<m:CreateItem MessageDisposition=\"SendAndSaveCopy\"><m:Items><t:Message>\
         <t:MimeContent CharacterSet=\"UTF-8\">{mime}</t:MimeContent></t:Message></m:Items></m:CreateItem>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_are_what_they_are_called() {
        assert!(
            (1300..1500).contains(&get_item(3).len()),
            "{}",
            get_item(3).len()
        );
        for (body, operation) in [
            (get_item(340), "GetItem"),
            (create_item(1_000_000), "CreateItem"),
        ] {
            let read = classify(body.as_bytes(), &Limits::default());
            assert_eq!(
                read.map(|envelope| envelope.operation.name()),
                Ok(operation)
            );
        }
    }
}

//! Every body of the sample collection and every hostile vector, classified as their lists say.
//!
//! The hostile vectors are committed; the samples are other people's work and are read where they
//! lie, at `SEG_SHARED` or `../shared` beside the workspace. Without them the test says so.

use seg_ews::document::{self, Kind, Service};
use seg_ews::{Limits, Reject, classify, request_acceptable};
use serde_json::Value;
use std::path::PathBuf;

const HOSTILE: &str = include_str!("../fixtures/ews-hostile-vectors.json");

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} in {value}"))
}

/// The shared data, where there is any.
fn shared() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = std::env::var_os("SEG_SHARED").map_or_else(beside, PathBuf::from);
    path.is_dir().then_some(path)
}

#[test]
fn every_sample_is_classified_as_its_index_says() {
    let Some(shared) = shared() else {
        println!("no shared samples here; the committed fixtures are all there is");
        return;
    };
    let folder = shared.join("ews-samples");
    let index = std::fs::read(folder.join("index.json")).expect("the index of the samples");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let samples = index["samples"].as_array().expect("a list");
    let mut counts = [0; 5];
    let mut requests = 0;
    for sample in samples {
        let (file, operation) = (text(sample, "file"), text(sample, "operation"));
        let body = std::fs::read(folder.join(file)).expect(file);
        let found = document::classify(&body, &Limits::default())
            .unwrap_or_else(|reject| panic!("{file}: {reject}"));
        assert_eq!(found.kind.name(), text(sample, "kind"), "{file}");
        assert_eq!(found.operation, operation, "{file}");
        counts[found.kind as usize] += 1;

        for piece in [1, 7, 64] {
            seg_ews::fuzz::scanner(&[&[piece][..], &body].concat());
        }
        let strict = classify(&body, &Limits::default());
        let to_ews = found.kind == Kind::Request && found.service == Service::Ews;
        if to_ews && found.known.is_some() {
            let envelope = strict.unwrap_or_else(|reject| panic!("{file}: {reject}"));
            assert_eq!(envelope.operation.name(), operation, "{file}");
            assert!(envelope.batch >= 1);
            requests += 1;
        } else {
            // Answers stand in the namespace of messages too: to nobody known.
            let known = strict.is_ok_and(|envelope| !envelope.operation.is_unknown());
            assert!(!known, "{file}: no request to EWS, and yet accepted");
        }
    }
    println!(
        "{} samples: {counts:?} by kind, {requests} accepted by the scanner",
        samples.len()
    );
    // Of the 197 requests to EWS one has lost its namespace on a documentation page.
    assert_eq!((samples.len(), requests), (436, 196));
}

/// What the hostile list writes about a request.
fn describe(headers: &Value, body: &str) -> Result<String, Reject> {
    let header = |name: &str| headers[name].as_str().map(str::as_bytes);
    request_acceptable(header("Content-Type"), header("Content-Encoding"))?;
    let envelope = classify(body.as_bytes(), &Limits::default())?;
    let mut description = envelope.operation.name().to_owned();
    if envelope.impersonation.is_some() {
        description += "+impersonation";
    }
    if envelope.serialized_security_context {
        description += "+serialized_security_context";
    }
    if envelope.management_role {
        description += "+management_role";
    }
    if let Some(url) = &envelope.push_url {
        description += "/push url_host=";
        description += &url.host().unwrap_or_default();
    }
    Ok(description)
}

#[test]
fn every_hostile_body_is_judged_as_given() {
    let vectors: Value = serde_json::from_str(HOSTILE).expect("JSON");
    let vectors = vectors["soap"].as_array().expect("a list");
    let mut refused = 0;
    for vector in vectors {
        let name = text(vector, "name");
        let judged = describe(&vector["headers"], text(vector, "body"));
        match (text(vector, "expect"), judged) {
            ("REJECT", Err(reject)) => {
                println!("{name}: {reject}");
                refused += 1;
            }
            (expected, Ok(description)) => assert_eq!(description, expected, "{name}"),
            (expected, Err(reject)) => panic!("{name}: {expected} expected, refused: {reject}"),
        }
    }
    println!("{} hostile bodies, {refused} refused", vectors.len());
    assert_eq!((vectors.len(), refused), (32, 14));
}

#[test]
fn the_bodies_that_must_be_refused_are_refused_for_themselves_too() {
    let vectors: Value = serde_json::from_str(HOSTILE).expect("JSON");
    for vector in vectors["soap"].as_array().expect("a list") {
        // Without the help of headers.
        if text(vector, "expect") == "REJECT" {
            let body = text(vector, "body");
            assert!(
                classify(body.as_bytes(), &Limits::default()).is_err(),
                "{}",
                text(vector, "name")
            );
        }
    }
}

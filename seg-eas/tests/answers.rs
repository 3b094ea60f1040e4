//! The literal refusals, read by another implementation: Debian's libwbxml.

use seg_eas::wbxml::text::encode_from_xml;
use seg_eas::{Command, ProtocolVersion, answer};
use std::io::Write;
use std::process::{Command as Process, Stdio};

/// libwbxml 0.11.8 has no tags of Find.
const UNKNOWN_TO_LIBWBXML: [Command; 1] = [Command::Find];

#[test]
fn libwbxml_reads_every_refusal() {
    let mut read = 0;
    for command in Command::ALL {
        let refusal = answer::refusal(Some(command), Some(ProtocolVersion::V14_1), false);
        if refusal.status != 200 || UNKNOWN_TO_LIBWBXML.contains(&command) {
            continue;
        }
        let xml = wbxml2xml(&refusal.body);
        assert!(xml.contains("<Status>129</Status>"), "{command:?}: {xml}");
        assert!(
            xml.contains(&format!("<{} xmlns", command.name())),
            "{command:?}: {xml}"
        );
        // What libwbxml read, written by us, is the refusal again.
        assert_eq!(
            encode_from_xml(&xml).as_deref(),
            Ok(refusal.body.as_ref()),
            "{command:?}: {xml}"
        );
        read += 1;
    }
    println!("refusals read by libwbxml: {read}");
    assert_eq!(read, 18);
}

/// What libwbxml makes of a message.
fn wbxml2xml(message: &[u8]) -> String {
    let mut process = Process::new("wbxml2xml")
        .args(["-l", "ACTIVESYNC", "-o", "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("wbxml2xml can't be started: {error}; install libwbxml2-utils")
        });
    let mut input = process.stdin.take().expect("its standard input");
    input.write_all(message).expect("wbxml2xml reads its input");
    drop(input);
    let output = process.wait_with_output().expect("wbxml2xml ends");
    assert!(
        output.status.success(),
        "wbxml2xml failed on {message:02x?}"
    );
    String::from_utf8(output.stdout).expect("XML in UTF-8")
}

//! `seg wbxml` and `seg ews`: what is on the wire, for people.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::{DONE, FINDINGS, NOT_DONE};

/// The most that is read, in bytes: more than any message that a mail server takes.
const LARGEST_INPUT: u64 = 256 * 1024 * 1024;

/// `seg wbxml`.
#[derive(Debug, Subcommand)]
pub(super) enum WbxmlCommand {
    /// WBXML to readable XML; opaque data is marked.
    Decode {
        /// The file; none: standard input.
        file: Option<PathBuf>,
    },
    /// The XML that `decode` writes, back to WBXML.
    Encode {
        /// The file; none: standard input.
        file: Option<PathBuf>,
    },
}

/// `seg ews`.
#[derive(Debug, Subcommand)]
pub(super) enum EwsCommand {
    /// The operation of a SOAP request, its risk group, impersonation and mailboxes, as JSON. What
    /// the gateway would refuse is told with the reason, and with what it is all the same.
    Classify {
        /// The file; none: standard input.
        file: Option<PathBuf>,
    },
}

pub(super) fn wbxml(command: &WbxmlCommand) -> ExitCode {
    finish(match command {
        WbxmlCommand::Decode { file } => input(file.as_ref()).and_then(|bytes| decode(&bytes)),
        WbxmlCommand::Encode { file } => input(file.as_ref()).and_then(|bytes| encode(&bytes)),
    })
}

fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut xml = seg_eas::wbxml::text::decode_to_xml(bytes, &seg_eas::wbxml::Limits::INSPECTION)
        .map_err(|error| format!("not WBXML as ActiveSync writes it: {error}"))?;
    if !xml.ends_with('\n') {
        xml.push('\n');
    }
    Ok(xml.into_bytes())
}

fn encode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let xml = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    seg_eas::wbxml::text::encode_from_xml(xml).map_err(|error| format!("can't be encoded: {error}"))
}

pub(super) fn ews(command: &EwsCommand) -> ExitCode {
    let EwsCommand::Classify { file } = command;
    let bytes = match input(file.as_ref()) {
        Ok(bytes) => bytes,
        Err(error) => return finish(Err(error)),
    };
    let (answer, code) = match seg_ews::classify(&bytes, &seg_ews::Limits::default()) {
        Ok(envelope) => {
            let impersonation = envelope.impersonation.as_ref().map(|impersonation| {
                json!({"kind": impersonation.kind.name(), "who": impersonation.address})
            });
            let answer = json!({
                "operation": envelope.unknown.as_deref().unwrap_or_else(|| envelope.operation.name()),
                "group": envelope.operation.group().name(),
                "version": envelope.request_server_version,
                "impersonation": impersonation,
                "serialized_security_context": envelope.serialized_security_context,
                "management_role": envelope.management_role,
                "mailboxes": envelope.mailboxes,
                "push_host": envelope.push_url.as_ref().and_then(|url| url.host()),
                "subscriptions": envelope.subscription_ids.len(),
                "attachments": envelope.attachment_ids.len(),
            });
            (answer, DONE)
        }
        // Not a request that the gateway would forward; what it is all the same may be of interest.
        Err(reject) => {
            let document = seg_ews::document::classify(&bytes, &seg_ews::Limits::default()).ok();
            let answer = json!({
                "rejected": reject.kind.reason(),
                "message": reject.to_string(),
                "kind": document.as_ref().map(|document| document.kind.name()),
                "service": document.as_ref().map(|document| document.service.name()),
                "operation": document.as_ref().map(|document| document.operation.as_str()),
            });
            (answer, FINDINGS)
        }
    };
    let printed = writeln!(io::stdout(), "{answer}");
    ExitCode::from(if printed.is_ok() { code } else { NOT_DONE })
}

fn input(file: Option<&PathBuf>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let (name, read) = match file {
        Some(path) => {
            let name = path.display().to_string();
            let opened = std::fs::File::open(path);
            (
                name,
                opened.and_then(|file| file.take(LARGEST_INPUT).read_to_end(&mut bytes)),
            )
        }
        None => {
            let name = "standard input".to_owned();
            (
                name,
                io::stdin()
                    .lock()
                    .take(LARGEST_INPUT)
                    .read_to_end(&mut bytes),
            )
        }
    };
    read.map_err(|error| format!("{name} can't be read: {error}"))?;
    Ok(bytes)
}

fn finish(outcome: Result<Vec<u8>, String>) -> ExitCode {
    match outcome {
        Ok(bytes) => match io::stdout().write_all(&bytes) {
            Ok(()) => ExitCode::from(DONE),
            // Whoever closed the pipe has what he wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(DONE),
            Err(error) => {
                eprintln!("seg: standard output: {error}");
                ExitCode::from(NOT_DONE)
            }
        },
        Err(error) => {
            eprintln!("seg: {error}");
            ExitCode::from(NOT_DONE)
        }
    }
}

//! The reader, the writer and the readable text over the shared vectors: messages from Microsoft's
//! documents, from captures and from other implementations, each with the XML that an independent
//! decoder made of it.

mod support;

use quick_xml::NsReader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event as Xml;
use quick_xml::name::{Namespace, ResolveResult};
use seg_eas::multipart::Multipart;
use seg_eas::wbxml::{Error, Event, Limits, Reader, UnknownTags, Writer, text};
use serde_json::Value;
use std::path::Path;

/// The vectors that the index says can be read.
const READABLE: usize = 135;
/// The vectors that must be refused.
const MALFORMED: usize = 6;

#[test]
fn shared_vectors() {
    let Some(shared) = support::shared() else {
        return;
    };
    let folder = shared.join("vectors");
    let index = std::fs::read(folder.join("index.json")).expect("readable");
    let index: Vec<Value> = serde_json::from_slice(&index).expect("readable");
    let (mut readable, mut identical, mut malformed, mut unknown) = (0, 0, 0, 0);
    for entry in &index {
        let file = entry["file"].as_str().expect("readable");
        let bytes = std::fs::read(folder.join(file)).expect("readable");
        if entry["expect"] == "reject" {
            refused(file, &bytes);
            malformed += 1;
            continue;
        }
        assert_eq!(entry["expect"], "ok", "{file}");
        let message = match entry["kind"].as_str().expect("readable") {
            "multipart" => Multipart::parse(&bytes).expect("readable").answer(),
            _ => &bytes,
        };
        let fragment = entry["kind"] == "fragment";
        unknown += agrees(
            file,
            message,
            fragment,
            &folder.join(entry["xml"].as_str().expect("readable")),
        );
        readable += 1;
        // Not every entry says so, but none needs an exception.
        rewritten(file, message, fragment);
        identical += usize::from(entry["reencode_identical"] == true);
    }
    println!(
        "vectors: {readable} read, {identical} of them marked as identical when written again, {malformed} refused"
    );
    assert_eq!((readable, malformed), (READABLE, MALFORMED));
    assert!(identical > 0);
    assert_eq!(unknown, 0, "every tag of the vectors is in the code pages");
}

fn refused(file: &str, bytes: &[u8]) {
    let read = |limits| Reader::new(bytes, limits).and_then(drain);
    let error = read(Limits::TRAFFIC).expect_err(file);
    println!("{file} refused: {error}");
    assert!(error.offset <= bytes.len());
    read(Limits::INSPECTION).expect_err(file);
    text::decode_to_xml(bytes, &Limits::INSPECTION).expect_err(file);
}

fn drain(mut reader: Reader<'_>) -> Result<(), Error> {
    while reader.next_event()?.is_some() {}
    Ok(())
}

/// Compares the events with the XML that stands beside the vector, and with our own XML. Returns
/// how many tags are unknown.
fn agrees(file: &str, message: &[u8], fragment: bool, xml: &Path) -> u64 {
    let xml = std::fs::read_to_string(xml).expect("readable");
    let theirs = tree_of_xml(&xml);
    let limits = Limits {
        unknown_tags: UnknownTags::Refuse,
        ..Limits::TRAFFIC
    };
    let mut reader = if fragment {
        Reader::body(message, limits)
    } else {
        Reader::new(message, limits).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let events = tree_of_events(&mut reader).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(events, theirs, "{file}");
    let ours = text::decode_to_xml(message, &Limits::TRAFFIC).expect("readable");
    assert_eq!(tree_of_xml(&ours), theirs, "{file}: {ours}");
    reader.unknown_tags()
}

/// Copies the message with reader and writer, and through the readable text: both give the same
/// bytes.
fn rewritten(file: &str, message: &[u8], fragment: bool) {
    let (mut reader, mut writer) = if fragment {
        (Reader::body(message, Limits::TRAFFIC), Writer::body())
    } else {
        (
            Reader::new(message, Limits::TRAFFIC).expect("readable"),
            Writer::message(),
        )
    };
    while let Some(event) = reader.next_event().expect("readable") {
        match event {
            Event::Start(tag) => writer.start(tag),
            Event::Empty(tag) => writer.empty(tag),
            Event::End => writer.end().expect("readable"),
            Event::Text(text) => writer.text(text).expect("readable"),
            Event::Opaque(bytes) => writer.opaque(bytes).expect("readable"),
            Event::Reference { .. } => panic!("{file} has a string table"),
        }
    }
    assert_eq!(writer.finish().expect("readable"), message, "{file}");
    let xml = text::decode_to_xml(message, &Limits::TRAFFIC).expect("readable");
    assert_eq!(
        text::encode_from_xml(&xml).as_deref(),
        Ok(message),
        "{file}: {xml}"
    );
}

/// A piece of a message, whatever it was written in.
#[derive(Debug, PartialEq, Eq)]
enum Node {
    Start(String, String),
    End,
    Text(String),
    Opaque(Vec<u8>),
}

fn tree_of_events(reader: &mut Reader<'_>) -> Result<Vec<Node>, Error> {
    let mut nodes = Vec::new();
    let name = |tag: seg_eas::wbxml::Tag| {
        let page = seg_eas::wbxml::pages::Page::of(tag.page()).expect("a known page");
        let token = tag.definition().expect("a known token");
        Node::Start(page.namespace().to_owned(), token.name().to_owned())
    };
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Start(tag) => nodes.push(name(tag)),
            Event::Empty(tag) => nodes.extend([name(tag), Node::End]),
            Event::End => nodes.push(Node::End),
            Event::Text(text) => nodes.push(Node::Text(text.to_owned())),
            Event::Opaque(bytes) => nodes.push(Node::Opaque(bytes.to_owned())),
            Event::Reference { text, .. } => nodes.push(Node::Text(text.to_owned())),
        }
    }
    Ok(nodes)
}

/// Reads the XML of the vectors: namespaces are pages, `w:opaque` marks byte arrays, blanks beside
/// elements are layout, `fragment` is only a wrapper.
fn tree_of_xml(xml: &str) -> Vec<Node> {
    const OPAQUE: &str = "w:opaque=\"base64\"";
    let mut reader = NsReader::from_str(xml);
    let (mut nodes, mut text) = (Vec::new(), String::new());
    let (mut leaf, mut opaque) = (false, false);
    loop {
        match reader.read_event().expect("well-formed XML") {
            Xml::Start(start) => {
                text.clear();
                leaf = start.name().0 != "fragment";
                opaque = start.attributes_raw().contains(OPAQUE);
                push_start(&mut nodes, &reader, start.name());
            }
            Xml::Empty(start) => {
                text.clear();
                leaf = false;
                push_start(&mut nodes, &reader, start.name());
                nodes.push(Node::End);
            }
            Xml::End(end) => {
                match (leaf, opaque) {
                    (true, true) => nodes.push(Node::Opaque(from_base64(&text))),
                    (true, false) => nodes.push(Node::Text(std::mem::take(&mut text))),
                    (false, _) => {}
                }
                text.clear();
                leaf = false;
                if end.name().0 != "fragment" {
                    nodes.push(Node::End);
                }
            }
            Xml::Text(piece) => text.push_str(&piece.xml10_content()),
            Xml::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().expect("a character");
                text.extend(character);
                text.push_str(resolve_predefined_entity(&reference).unwrap_or_default());
            }
            Xml::Eof => return nodes,
            _ => {}
        }
    }
}

fn push_start(nodes: &mut Vec<Node>, reader: &NsReader<&[u8]>, name: quick_xml::name::QName<'_>) {
    let (namespace, local) = reader.resolver().resolve_element(name);
    let ResolveResult::Bound(Namespace(namespace)) = namespace else {
        assert_eq!(name.0, "fragment", "only the wrapper has no namespace");
        return;
    };
    nodes.push(Node::Start(namespace.to_owned(), local.as_ref().to_owned()));
}

fn from_base64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("base64")
}

//! Entry points for fuzzing: each takes any bytes and must return.
//!
//! They are called from property tests in this crate and from `tests/fuzz` by hand.

use crate::multipart::Multipart;
use crate::wbxml::{Event, Limits, Reader, UnknownTags, text};
use crate::{Command, DeviceId, item_operations, poll, request_line};

/// The pull reader, over a message and over a body without header.
pub fn wbxml_reader(data: &[u8]) {
    let strict = Limits {
        unknown_tags: UnknownTags::Refuse,
        ..Limits::TRAFFIC
    };
    for limits in [Limits::TRAFFIC, Limits::INSPECTION, strict] {
        if let Ok(reader) = Reader::new(data, limits) {
            read_through(reader, data.len());
        }
        read_through(Reader::body(data, limits), data.len());
    }
}

/// The query in both forms, and the device id by itself.
pub fn request_line(data: &[u8]) {
    let _ = DeviceId::from_raw(data);
    if let Ok(query) = std::str::from_utf8(data) {
        let _ = request_line::parse(query).map(|line| format!("{line:?}"));
        let _ = request_line::parse_options(query);
    }
}

/// What is read from the bodies of polls and of ItemOperations.
pub fn bodies(data: &[u8]) {
    for command in Command::ALL {
        let _ = poll::read(command, data);
    }
    let _ = item_operations::fetch_only(data);
}

/// The readable text: what decodes must encode to the same bytes, and any text must return.
pub fn wbxml_text(data: &[u8]) {
    if let Ok(xml) = text::decode_to_xml(data, &Limits::INSPECTION) {
        assert_eq!(text::encode_from_xml(&xml).as_deref(), Ok(data), "{xml}");
    }
    if let Ok(xml) = std::str::from_utf8(data) {
        let _ = text::encode_from_xml(xml);
    }
}

/// The multipart container.
pub fn multipart(data: &[u8]) {
    if let Ok(multipart) = Multipart::parse(data) {
        assert_eq!(multipart.parts().count(), multipart.count());
        assert!(multipart.answer().len() <= data.len());
    }
}

/// Every event takes at least a byte, and events never overlap.
fn read_through(mut reader: Reader<'_>, total: usize) {
    let mut end = reader.offset();
    let mut depth = 0_u32;
    while let Ok(Some(event)) = reader.next_event() {
        assert!(reader.event_offset() >= end, "events overlap");
        assert!(
            reader.offset() > reader.event_offset(),
            "an event of no bytes"
        );
        end = reader.offset();
        match event {
            Event::Start(_) => depth += 1,
            Event::End => depth -= 1,
            _ => {}
        }
        assert_eq!(reader.depth(), depth);
    }
    assert!(reader.offset() <= total);
}

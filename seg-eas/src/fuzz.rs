//! Entry points for fuzzing: each takes any bytes and must return.
//!
//! They are called from property tests in this crate and from `tests/fuzz` by hand.

use crate::content::{self, Rule};
use crate::firewall::Firewall;
use crate::multipart::Multipart;
use crate::wbxml::{Edits, Event, Limits, Outline, Reader, UnknownTags, text};
use crate::{Command, DeviceId, item_operations, poll, provision, request_line, sync_keys};

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
    let _ = provision::read(data);
    let _ = sync_keys::collections(data);
    let _ = sync_keys::folder_key(data);
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

/// The check of a body in pieces: what it lets through is a message, and what the outline makes of
/// it without a change is the same message.
pub fn firewall(data: &[u8]) {
    let firewall = Firewall::default();
    for size in [1, 7, data.len().max(1)] {
        let mut check = firewall.check(Command::Sync, Some(data.len() as u64));
        let fed = data.chunks(size).try_for_each(|piece| check.feed(piece));
        if fed.and_then(|()| check.finish()).is_ok() {
            let outline = Outline::read(data, Limits::TRAFFIC);
            let same = outline.map(|outline| Edits::new(&outline).apply() == data);
            assert_eq!(same, Ok(true));
        }
    }
}

/// The readers of folders, in answers and in requests.
pub fn folders(data: &[u8]) {
    use crate::folders::{FolderAction, FolderRule};
    let rule = |action, class: &str| FolderRule {
        id: class.to_owned(),
        action,
        types: Vec::new(),
        classes: class.to_owned().try_into().into_iter().collect(),
        scope: content::Scope::default(),
        except: content::Scope::default(),
    };
    let rules = [
        rule(FolderAction::Hide, "notes"),
        rule(FolderAction::ReadOnly, "email"),
    ];
    let rules: Vec<_> = rules.iter().collect();
    let kind = |id: &str| u8::try_from(id.len()).ok();
    if let Ok(Some(listed)) = crate::folders::listed(&rules, data) {
        assert_eq!(listed.body.is_some(), listed.hidden > 0);
        if let Some(body) = listed.body {
            let again = crate::folders::listed(&rules, &body);
            assert!(again.is_ok_and(|again| again.is_none_or(|again| again.hidden == 0)));
        }
    }
    for command in Command::ALL {
        let judged = crate::folders::judge(&rules, command, data, kind);
        assert!(judged.is_ok() || Outline::read(data, Limits::TRAFFIC).is_err());
    }
    if let Ok(Some(left)) = crate::folders::found(&rules, data, kind) {
        assert_eq!(crate::folders::found(&rules, &left, kind), Ok(None));
    }
}

/// Every rewriter of content, over an answer, a multipart answer, a mail that is sent, and a fetched
/// attachment: what comes out of a message is a message.
pub fn content(data: &[u8]) {
    let rules = rules();
    let rules: Vec<&Rule> = rules.iter().collect();
    for multipart in [false, true] {
        let answered = content::answered(&rules, data, multipart, &|_| None, &|_| {
            content::Whole::Unseen
        });
        let body = answered.ok().and_then(|answered| answered.body);
        if let (Some(body), false) = (&body, multipart) {
            assert!(Outline::read(body, Limits::TRAFFIC).is_ok());
        }
        if let (Some(body), true) = (&body, multipart) {
            assert!(Multipart::parse(body).is_ok());
        }
    }
    if let Ok(Some(wider)) = content::widened(&rules, data, &|_| false) {
        let content::Wider { body: wide, asked } = wider;
        assert!(Outline::read(&wide, Limits::TRAFFIC).is_ok());
        assert!(asked.is_empty() || content::cut(&wide, false, &asked).is_ok());
        // A request for everything is as wide as can be.
        let again = content::widened(&rules, &wide, &|_| false);
        assert_eq!(again, Ok(None));
    }
    if let Ok(ids) = content::unseen(&rules, data, false) {
        let asked = content::asks(&rules, &ids);
        assert!(item_operations::fetch_only(&asked) || ids.is_empty());
    }
    let _ = content::whole(&rules, data);
    let sent = content::sent(&rules, data);
    if let Some(body) = sent.ok().and_then(|sent| sent.body) {
        assert!(Outline::read(&body, Limits::TRAFFIC).is_ok());
    }
    let _ = content::mail(&rules, data);
    let _ = content::attachment(&rules, None, data);
}

/// Rules of every kind, about as much as there can be.
fn rules() -> Vec<Rule> {
    use crate::content::{
        Action, Attachments, Classified, Links, Scope, Sealed, Template, TooLarge,
    };
    let rule = |id: &str| Rule {
        id: id.to_owned(),
        scope: Scope::default(),
        except: Scope::default(),
        attachments: None,
        links: None,
        classified: None,
        sealed: Sealed::Withhold,
        too_large: TooLarge::Withhold,
    };
    let mut rules = vec![
        Rule {
            attachments: Some(Attachments {
                action: Action::Remove,
                extensions: vec!["exe".to_owned()],
                types: Vec::new(),
                larger_than: None,
                sender_domains: Vec::new(),
                recipient_domains: Vec::new(),
                text: "{name} {size} {rule}".to_owned(),
            }),
            ..rule("attachments")
        },
        Rule {
            attachments: Some(Attachments {
                action: Action::BlockFetch,
                extensions: Vec::new(),
                types: vec!["application/pdf".to_owned(), "image/*".to_owned()],
                larger_than: None,
                sender_domains: Vec::new(),
                recipient_domains: Vec::new(),
                text: String::new(),
            }),
            ..rule("types")
        },
        Rule {
            classified: Some(Classified {
                subject: vec!["secret".to_owned()],
                body: vec!["secret".to_owned()],
                headers: [("X-Class".to_owned(), "secret".to_owned())].into(),
                text: "{rule}".to_owned(),
            }),
            ..rule("classified")
        },
    ];
    let template = Template::try_from("https://safe/?{url_encoded}".to_owned());
    rules.extend(template.ok().map(|template| Rule {
        links: Some(Links {
            template,
            domains: None,
            except_domains: Vec::new(),
        }),
        ..rule("links")
    }));
    rules
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wbxml::{Tag, Writer};
    use proptest::prelude::*;

    /// A Sync answer with one mail.
    fn mail(subject: &str, kind: u8, data: &[u8], name: &str) -> Vec<u8> {
        let mut writer = Writer::message();
        let plain = |text: &str| text.replace('\0', "");
        for token in [0x05, 0x1C, 0x0F, 0x16, 0x07, 0x1D] {
            writer.start(Tag::new(0, token));
        }
        writer.element(Tag::new(2, 0x14), &plain(subject)).unwrap();
        writer.start(Tag::new(17, 0x0E));
        writer.start(Tag::new(17, 0x0F));
        writer.element(Tag::new(17, 0x10), &plain(name)).unwrap();
        writer.element(Tag::new(17, 0x11), "reference").unwrap();
        writer.end().unwrap();
        writer.end().unwrap();
        writer.start(Tag::new(17, 0x0A));
        let kind = kind.to_string();
        writer.element(Tag::new(17, 0x06), &kind).unwrap();
        writer.element(Tag::new(17, 0x0C), "10").unwrap();
        writer.start(Tag::new(17, 0x0B));
        writer.opaque(data).unwrap();
        for _ in 0..8 {
            writer.end().unwrap();
        }
        writer.finish().unwrap()
    }

    proptest! {
        #[test]
        fn any_mail_is_rewritten_into_a_message(
            subject in "(secret)?[a-z ]{0,8}",
            kind in 1_u8..6,
            data in "[a-z <>\"=/:?&\r\n-]{0,60}(https?://[a-z.]{1,9}/?)?[a-z<>\"]{0,9}",
            name in "[a-z]{1,3}\\.(exe|txt)",
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = mail(&subject, kind, data.as_bytes(), &name);
            content(&whole);
            firewall(&whole);
            content(data.as_bytes());
            let beginning = &whole[..cut.index(whole.len())];
            content(beginning);
            firewall(beginning);
        }

        #[test]
        fn any_bytes_return(data in proptest::collection::vec(any::<u8>(), 0..120)) {
            content(&data);
            firewall(&data);
            bodies(&data);
        }
    }
}

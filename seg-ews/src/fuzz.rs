//! Entry points for fuzzing: one per decoder, total over arbitrary bytes. The properties that must
//! hold are asserted here, so that property tests and a fuzzer check the same things.

use crate::{
    Fields, Framer, Limits, Progress, Redaction, Redactor, Scanner, answer, authorization, bearer,
    callback, challenge, document,
};

/// The scanner: any split gives what one piece gives. The first byte chooses the split.
pub fn scanner(data: &[u8]) {
    let Some((&size, body)) = data.split_first() else {
        return;
    };
    let whole = crate::classify(body, &Limits::default());
    let mut scanner = Scanner::new(Limits::default());
    let mut decided = None;
    let mut outcome = Ok(Progress::NeedMore);
    for piece in body.chunks(usize::from(size).max(1)) {
        outcome = scanner.feed(piece);
        if outcome.is_err() {
            break;
        }
        if decided.is_some() {
            assert_eq!(decided, scanner.operation(), "a decision must not change");
        }
        decided = scanner.operation();
    }
    let pieces = outcome.and_then(|_| scanner.finish());
    assert_eq!(whole, pieces, "a split must not change the outcome");
    if let (Ok(envelope), Some(decided)) = (&whole, decided) {
        assert_eq!(envelope.operation, decided);
    }
}

/// The document classifier: what the scanner accepts is a request of the same operation.
pub fn document(data: &[u8]) {
    let described = document::classify(data, &Limits::default());
    if let Ok(envelope) = crate::classify(data, &Limits::default()) {
        let described = described.ok().and_then(|document| document.known);
        let known = (!envelope.operation.is_unknown()).then_some(envelope.operation);
        assert!(known.is_none() || described == known);
    }
}

/// The challenge filter over the lines of `data`: nothing is in both lists, no NTLM is kept.
pub fn challenge_lines(data: &[u8]) {
    for upn_proven in [false, true] {
        let lines = data.split(|&byte| byte == b'\n');
        let filtered = challenge::filter(lines, upn_proven);
        for kept in &filtered.kept {
            let scheme = kept.split(|byte| matches!(byte, b' ' | b'\t')).next();
            let ntlm = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"ntlm"));
            assert!(!ntlm, "NTLM must not be kept");
            let again = challenge::filter([*kept].into_iter(), upn_proven);
            assert!(again.kept == [*kept], "what is kept must be one challenge");
        }
    }
}

/// The readers of `Authorization`.
pub fn authorization(data: &[u8]) {
    let _ = authorization::ntlm_message(data);
    match authorization::parse(data) {
        Some(authorization::Credentials::Basic(token)) => {
            let _ = authorization::basic_user(token);
        }
        Some(authorization::Credentials::Bearer(token)) => {
            let _ = bearer::claims(token);
        }
        _ => {}
    }
}

/// The readers of URLs: the path of a GET, and after the first space its query.
pub fn get_form(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, query) = text.split_once(' ').unwrap_or((&text, ""));
    if let Some(form) = crate::classify_get(path, Some(query)) {
        assert_eq!(crate::classify_get(form.path(), Some(query)), Some(form));
    }
}

/// The reader of `ServerVersionInfo`: what it finds can be written into a well-formed answer.
pub fn server_version(data: &[u8]) {
    if let Some(version) = answer::ServerVersion::scan(data) {
        let answer = answer::refusal(None, 1, &version, &String::from_utf8_lossy(data));
        let read = document::classify(answer.body.as_bytes(), &Limits::default());
        assert!(read.is_ok(), "an answer must be well-formed");
    }
}

/// The framer: ends of envelopes are where they are, whatever the pieces.
pub fn framer(data: &[u8]) {
    let Some((&size, row)) = data.split_first() else {
        return;
    };
    // One byte a piece finds every end.
    let ends = |size: usize| {
        let mut framer = Framer::new();
        let (mut at, mut ends) = (0, Vec::new());
        for piece in row.chunks(size) {
            match framer.feed(piece) {
                Ok(Some(end)) => ends.push(at + end),
                Ok(None) => {}
                Err(_) => return (ends, None),
            }
            at += piece.len();
        }
        (ends, Some(framer.is_between()))
    };
    let (all, ended) = ends(1);
    let (some, ended_too) = ends(usize::from(size).max(1));
    assert_eq!(ended, ended_too, "a split must not change what is readable");
    assert!(some.iter().all(|end| all.contains(end)), "an end is an end");
    if ended.is_some() {
        assert_eq!(some.is_empty(), all.is_empty(), "the first end is told");
    }
}

/// The redactor: any split gives what one piece gives, and without a rule every byte passes.
pub fn redactor(data: &[u8]) {
    let Some((&size, answer)) = data.split_first() else {
        return;
    };
    let redacted = |redaction: &Redaction, size: usize| {
        let mut redactor = Redactor::new(redaction.clone());
        let mut out = Vec::new();
        for piece in answer.chunks(size) {
            out.extend(redactor.feed(piece).ok()?);
        }
        redactor.finish().ok()?;
        Some((out, redactor.items()))
    };
    let every = Redaction {
        attachments: true,
        mime_content: true,
        fields: Fields::of(["subject"]).ok(),
    };
    for redaction in [Redaction::default(), every] {
        let whole = redacted(&redaction, answer.len().max(1));
        let pieces = redacted(&redaction, usize::from(size).max(1));
        assert_eq!(whole, pieces, "a split must not change the outcome");
        if let (true, Some((out, _))) = (redaction.is_nothing(), whole) {
            assert_eq!(out, answer, "what is not left out stays");
        }
    }
}

/// The push URL: in an accepted push subscription it can be replaced, or the text is UTF-16.
pub fn push_url(data: &[u8]) {
    let changed = callback::with_push_url(data, "https://gateway.example/&");
    let limits = Limits::default();
    let Ok(before) = crate::classify(data, &limits) else {
        return;
    };
    if let (Some(_), Some(changed)) = (&before.push_url, changed) {
        let after = crate::classify(&changed, &limits).ok();
        let url = after.and_then(|after| after.push_url);
        assert_eq!(
            url.as_ref().map(|url| url.expose()),
            Some("https://gateway.example/&")
        );
    }
}

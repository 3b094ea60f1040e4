//! Entry points for fuzzing: one per decoder, total over arbitrary bytes. The properties that must
//! hold are asserted here, so that property tests and a fuzzer check the same things.

use crate::{Limits, Progress, Scanner, answer, authorization, bearer, challenge, document};

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
        assert_eq!(described, Some(envelope.operation));
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

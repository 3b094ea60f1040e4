//! Entry points for fuzzing: each takes arbitrary bytes and must neither panic nor hang.

use bytes::Bytes;

use super::chunked::{Decoder, Step};
use super::response;

/// A response head: found and parsed, byte by byte and at once, with the same verdict.
pub fn response_head(data: &[u8]) {
    let at_once = response::find_end(data, &mut 0);
    let mut scanned = 0;
    let stepwise = (0..=data.len())
        .filter_map(|end| data.get(..end))
        .find_map(|prefix| response::find_end(prefix, &mut scanned).transpose())
        .transpose();
    assert_eq!(
        at_once, stepwise,
        "the verdict must not depend on how the bytes were split"
    );
    if let Ok(Some(head)) = at_once.map(|end| end.and_then(|end| data.get(..end))) {
        for to_head in [false, true] {
            let _ = response::parse(&Bytes::copy_from_slice(head), to_head);
        }
    }
}

/// A chunked body; what it gives can't be longer than what it was given.
pub fn chunked(data: &[u8]) {
    let mut decoder = Decoder::default();
    let mut input = Bytes::copy_from_slice(data);
    let mut given = 0;
    while let Ok(Step::Data(piece)) = decoder.next(&mut input) {
        given += piece.len();
    }
    assert!(given <= data.len());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn response_head(data in proptest::collection::vec(any::<u8>(), 0..256)) {
            super::response_head(&data);
        }

        #[test]
        fn response_head_behind_a_status_line(data in "[ -~\r\n\t]{0,200}") {
            super::response_head(format!("HTTP/1.1 200 OK\r\n{data}\r\n\r\n").as_bytes());
        }

        #[test]
        fn chunked(data in proptest::collection::vec(any::<u8>(), 0..256)) {
            super::chunked(&data);
        }
    }
}

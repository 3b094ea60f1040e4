//! Entry points for fuzzing: each takes arbitrary bytes and must neither panic nor hang.

use futures_util::FutureExt as _;

use super::proxy;

/// What a balancer sends first. Of bytes that are all there nothing is waited for, and what is read
/// of a good header does not depend on what follows it.
pub fn proxy_header(data: &[u8]) {
    let mut rest = data;
    let outcome = proxy::read(&mut rest).now_or_never();
    let Some(outcome) = outcome else {
        panic!("bytes in memory were waited for");
    };
    if let (Ok(told), Some(header)) = (outcome, data.get(..data.len() - rest.len())) {
        let mut alone = header;
        let again = proxy::read(&mut alone).now_or_never();
        assert_eq!(again.and_then(Result::ok), Some(told));
        assert!(alone.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn proxy_header(data in prop::collection::vec(any::<u8>(), 0..256)) {
            super::proxy_header(&data);
        }

        #[test]
        fn proxy_header_of_version_one(data in "[ -~]{0,110}", end in "(\r\n|\n|)[ -~]{0,9}") {
            super::proxy_header(format!("PROXY {data}{end}").as_bytes());
        }

        #[test]
        fn proxy_header_of_version_two(data in prop::collection::vec(any::<u8>(), 0..64)) {
            super::proxy_header(&[&b"\r\n\r\n\0\r\nQUIT\n"[..], &data].concat());
        }

        #[test]
        fn proxy_header_with_addresses(family in 0_u8..0x40, data in prop::collection::vec(any::<u8>(), 0..60)) {
            let length = u8::try_from(data.len()).unwrap_or_default();
            let head = [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family, 0, length]].concat();
            super::proxy_header(&[&head[..], &data, b"behind"].concat());
        }
    }
}

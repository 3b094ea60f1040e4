//! Cookies that only Exchange's own front end may send to its back end.

use http::{HeaderMap, HeaderValue, header};

/// Never passed inward. `X-BackEndCookie` and `X-BackEndOverrideCookie` are affinity, which
/// the server sets itself, and pass.
const NEVER_COOKIES: [&str; 3] = ["x-beresource", "x-anonresource", "x-anonresource-backend"];

/// Takes the forbidden cookies out; lines without one stay as they are.
pub(super) fn clean(headers: &mut HeaderMap) {
    if !headers.contains_key(header::COOKIE) {
        return;
    }
    let forbidden = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default().trim();
        NEVER_COOKIES
            .iter()
            .any(|never| never.eq_ignore_ascii_case(name))
    };
    let clean = |line: &HeaderValue| match line.to_str() {
        Ok(text) if text.split(';').any(forbidden) => {
            let kept: Vec<&str> = text
                .split(';')
                .map(str::trim)
                .filter(|pair| !forbidden(pair))
                .collect();
            HeaderValue::from_str(&kept.join("; "))
                .ok()
                .filter(|value| !value.is_empty())
        }
        Ok(_) => Some(line.clone()),
        // What can't be read can't be shown to be harmless.
        Err(_) => None,
    };
    let lines: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(clean)
        .collect();
    headers.remove(header::COOKIE);
    for line in lines {
        headers.append(header::COOKIE, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(line: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, line.parse().expect("a header value"));
        headers
    }

    #[test]
    fn only_the_dangerous_cookie_goes() {
        let mut map = cookie("X-BackEndCookie=abc; x-beResource=evil~1; ClientId=7");
        clean(&mut map);
        assert_eq!(
            map.get(header::COOKIE).map(HeaderValue::as_bytes),
            Some(&b"X-BackEndCookie=abc; ClientId=7"[..])
        );
        let mut map = cookie("X-BEResource=evil");
        clean(&mut map);
        assert!(!map.contains_key(header::COOKIE));
    }
}

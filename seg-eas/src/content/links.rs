//! Hyperlinks: rewritten by a template on the way to the device, restored on the way back.

use std::borrow::Cow;

use serde::Deserialize;

/// What links become. `{url}` stands for the link, `{url_encoded}` for the link percent-encoded,
/// `{host}` for its host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    /// Before the link.
    prefix: String,
    /// Behind it.
    suffix: String,
    encoded: bool,
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = |mark: &str| {
            let (prefix, suffix) = text.split_once(mark)?;
            Some((prefix.to_owned(), suffix.to_owned()))
        };
        let (found, encoded) = match (parts("{url_encoded}"), parts("{url}")) {
            (Some(found), None) => (found, true),
            (None, Some(found)) => (found, false),
            _ => {
                return Err(format!(
                    "`{text}` must hold {{url}} or {{url_encoded}}, one of them, once"
                ));
            }
        };
        let (prefix, suffix) = found;
        let authority = scheme_length(prefix.as_bytes()).and_then(|scheme| prefix.get(scheme..));
        let is_of_its_own = match authority {
            Some(authority) => authority.contains(['/', '?', '#']),
            None => !["http://", "https://", "www."]
                .iter()
                .any(|web| begins_with(web, &prefix)),
        };
        if !is_of_its_own {
            return Err(format!(
                "`{text}` must name its server whole before the link, or other links could pass for rewritten ones"
            ));
        }
        if prefix.is_empty() || suffix.contains('{') || prefix.contains('{') {
            return Err(format!(
                "`{text}` must begin with something of its own, and hold nothing else in braces"
            ));
        }
        Ok(Self {
            prefix,
            suffix,
            encoded,
        })
    }
}

impl Template {
    /// The link as the device gets it.
    #[must_use]
    pub fn rewritten(&self, url: &str) -> String {
        let mut out = String::with_capacity(self.prefix.len() + 2 * url.len() + self.suffix.len());
        out.push_str(&self.prefix);
        if self.encoded {
            for byte in url.bytes() {
                if unreserved(byte) {
                    out.push(char::from(byte));
                } else {
                    let digit = |digit: u8| char::from_digit(u32::from(digit), 16);
                    let digits = [digit(byte >> 4), digit(byte & 0x0F)];
                    out.push('%');
                    out.extend(
                        digits
                            .into_iter()
                            .flatten()
                            .map(|digit| digit.to_ascii_uppercase()),
                    );
                }
            }
        } else {
            out.push_str(url);
        }
        out.push_str(&self.suffix);
        out
    }

    /// Puts the links back that were rewritten; the count says how many. Bytes, because the text of
    /// a mail may stand in any character set that has ASCII in it. Anybody can write what looks like a
    /// rewritten link: what a link can't hold is not put back.
    #[must_use]
    pub fn restored(&self, text: &[u8], html: bool) -> Option<(Vec<u8>, usize)> {
        let finder = memchr::memmem::Finder::new(self.prefix.as_bytes());
        let mut run = Run::default();
        let (mut out, mut copied, mut count) = (Vec::new(), 0, 0);
        for at in finder.find_iter(text) {
            let begin = at + self.prefix.len();
            if at < copied || begin < run.barren {
                continue;
            }
            let end = run.end(text, begin, self);
            let link = text.get(begin..end).unwrap_or_default();
            let behind = text.get(end..).unwrap_or_default();
            let restored = self
                .link_in(link, html)
                .filter(|_| behind.starts_with(self.suffix.as_bytes()));
            let Some(restored) = restored else {
                // What comes later in the same run is the end of this one.
                run.barren = run.whole;
                continue;
            };
            out.extend_from_slice(text.get(copied..at).unwrap_or_default());
            out.extend_from_slice(&restored);
            copied = end + self.suffix.len();
            count += 1;
        }
        if count == 0 {
            return None;
        }
        out.extend_from_slice(text.get(copied..).unwrap_or_default());
        Some((out, count))
    }

    /// The link that was rewritten into this.
    fn link_in(&self, rewritten: &[u8], html: bool) -> Option<Vec<u8>> {
        if !self.encoded {
            return scheme_length(rewritten).map(|_| rewritten.to_vec());
        }
        let link = String::from_utf8(percent_decoded(rewritten)?).ok()?;
        scheme_length(link.as_bytes())?;
        let is_out_of_place = |letter: char| {
            letter.is_control() || letter.is_whitespace() || "\"'<>`".contains(letter)
        };
        if html && link.contains(is_out_of_place) || link.contains(char::is_control) {
            return None;
        }
        let link = if html {
            link.replace('&', "&amp;")
        } else {
            link
        };
        Some(link.into_bytes())
    }
}

/// Letters in a row that may belong to a link. Each is looked at once, however many links seem to begin
/// in it.
#[derive(Default)]
struct Run {
    /// Where they end.
    whole: usize,
    /// Where the template's suffix stands in them next; none: at their end.
    suffix: Option<usize>,
    /// Up to here nothing can be put back.
    barren: usize,
}

impl Run {
    /// Where the link ends that begins here.
    fn end(&mut self, text: &[u8], begin: usize, template: &Template) -> usize {
        let rest = text.get(begin..).unwrap_or_default();
        if self.whole <= begin {
            let length = if template.encoded {
                let part = |byte: &u8| unreserved(*byte) || *byte == b'%';
                rest.iter().take_while(|byte| part(byte)).count()
            } else {
                link_length(rest)
            };
            self.whole = begin + length;
            self.suffix = None;
        }
        if template.encoded || template.suffix.is_empty() {
            return self.whole;
        }
        if self.suffix.is_none_or(|suffix| suffix < begin) {
            let link = text.get(begin..self.whole).unwrap_or_default();
            let found = memchr::memmem::find(link, template.suffix.as_bytes());
            self.suffix = Some(found.map_or(self.whole, |at| begin + at));
        }
        self.suffix.unwrap_or(self.whole)
    }
}

/// Which links are rewritten, and into what.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// What they become.
    pub template: Template,
    /// Only links to these domains and what is below them; absent: to all.
    pub domains: Option<Vec<String>>,
    /// But not to these.
    #[serde(default)]
    pub except_domains: Vec<String>,
}

impl Links {
    /// The link as the device gets it; `None`: it stays.
    pub(super) fn rewritten(&self, url: &str) -> Option<String> {
        // Mail programs make a link of `www.` too, one to the web.
        let whole = if is_bare(url.as_bytes()) {
            Cow::Owned(format!("http://{url}"))
        } else {
            Cow::Borrowed(url)
        };
        let host = host_of(&whole)?;
        let among = |domains: &[String]| domains.iter().any(|domain| is_below(host, domain));
        if url.starts_with(&self.template.prefix)
            || among(&self.except_domains)
            || !self.domains.as_deref().is_none_or(among)
        {
            return None;
        }
        Some(self.template.rewritten(&whole))
    }

    /// Begin and end of the links of a text, but of those that were rewritten already, by another
    /// rule or another gateway.
    pub(super) fn found(&self, text: &str) -> Vec<(usize, usize)> {
        let mut found = links_in(text.as_bytes());
        found.retain(|(begin, _)| {
            let before = text.get(..*begin).unwrap_or_default();
            !before.ends_with(&self.template.prefix)
        });
        found
    }

    /// A plain text with its links rewritten. `cut`: the text was truncated, and a link at its end
    /// is only the half of one: it goes.
    #[must_use]
    pub fn in_text(&self, text: &str, cut: bool) -> Option<(String, usize)> {
        let (mut out, mut copied, mut count) = (String::new(), 0, 0);
        for (begin, end) in self.found(text) {
            let half = cut && end == text.len();
            let link = text.get(begin..end).unwrap_or_default();
            let new = match self.rewritten(link) {
                Some(_) if half => String::new(),
                Some(new) => new,
                None => continue,
            };
            out.push_str(text.get(copied..begin).unwrap_or_default());
            out.push_str(&new);
            copied = end;
            count += 1;
        }
        if count == 0 {
            return None;
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        Some((out, count))
    }
}

/// Begin and end of the links of a text.
fn links_in(text: &[u8]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    // Behind a scheme there is a colon, behind `www` a dot.
    for at in memchr::memchr2_iter(b':', b'.', text) {
        let Some((begin, name)) = begin_of(text, at) else {
            continue;
        };
        if found.last().is_some_and(|(_, end)| begin < *end) {
            continue;
        }
        let rest = text.get(begin..).unwrap_or_default();
        let mut end = begin + link_length(rest);
        // A sentence ends behind a link, not in it.
        while end > name
            && text
                .get(end - 1)
                .is_some_and(|last| b".,;:!?)]}'".contains(last))
        {
            end -= 1;
        }
        if end > name {
            found.push((begin, end));
        }
    }
    found
}

/// Where the link begins that has the colon of its scheme, or the dot behind its `www`, at `at`, and
/// where its name goes on.
fn begin_of(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let (before, rest) = text.split_at_checked(at)?;
    if rest.starts_with(b"://") {
        let letters = before.iter().rev();
        let scheme = letters.take_while(|byte| byte.is_ascii_alphabetic());
        let begin = at - scheme.count();
        scheme_length(text.get(begin..)?)?;
        return Some((begin, at + 3));
    }
    let begin = at.checked_sub(3)?;
    // Not the host of an address that has a scheme, nor a part of a name, a path or a mail address.
    let joins = |byte: &u8| byte.is_ascii_alphanumeric() || b"./@-_=&%".contains(byte);
    (is_bare(text.get(begin..)?) && !before.get(..begin)?.last().is_some_and(joins))
        .then_some((begin, at + 1))
}

/// Whether an address has no scheme and is one of the web all the same: `www.`, a name, a dot and
/// another one.
pub(super) fn is_bare(text: &[u8]) -> bool {
    let Some((www, name)) = text.split_at_checked(4) else {
        return false;
    };
    let mut labels = name.split(|byte| *byte == b'.');
    let is_label = |label: &[u8]| {
        let begin = label.first();
        begin.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80)
    };
    www.eq_ignore_ascii_case(b"www.")
        && labels.next().is_some_and(is_label)
        && labels.next().is_some_and(is_label)
}

/// How far a link goes.
fn link_length(text: &[u8]) -> usize {
    let ends = |byte: u8| byte <= b' ' || matches!(byte, b'<' | b'>' | b'"' | 0x7F);
    text.iter().take_while(|byte| !ends(**byte)).count()
}

/// The length of `http://` or `https://` where a text begins with it.
fn scheme_length(text: &[u8]) -> Option<usize> {
    [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find(|scheme| {
            text.get(..scheme.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
        })
        .map(<[u8]>::len)
}

fn begins_with(text: &str, begin: &str) -> bool {
    text.get(..begin.len())
        .is_some_and(|found| found.eq_ignore_ascii_case(begin))
}

/// The host of a web link, without user and port.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.get(scheme_length(url.as_bytes())?..)?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next()?,
        None => host.split(':').next()?,
    };
    let host = host.trim_end_matches('.');
    (!host.is_empty()).then_some(host)
}

/// Whether a host is a domain or lies below it, without regard to case.
pub(super) fn is_below(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches("*.").trim_matches('.');
    let begin = host.len().checked_sub(domain.len());
    begin.is_some_and(|begin| {
        host.get(begin..)
            .is_some_and(|end| end.eq_ignore_ascii_case(domain))
            && (begin == 0 || host.as_bytes().get(begin - 1) == Some(&b'.'))
    })
}

const fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let digits = std::str::from_utf8(digits).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn links(template: &str) -> Links {
        Links {
            template: Template::try_from(template.to_owned()).unwrap(),
            domains: None,
            except_domains: vec!["corp.example".to_owned()],
        }
    }

    #[test]
    fn a_template_says_where_the_link_goes() {
        for bad in ["awbs://", "{url}", "x{url}{url_encoded}", "x{url}{id}"] {
            assert!(Template::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        let awbs = Template::try_from("awbs://{url}".to_owned()).unwrap();
        assert_eq!(awbs.rewritten("http://a/b?c"), "awbs://http://a/b?c");
        let safe = Template::try_from("https://safe.example/?u={url_encoded}&v=1".to_owned());
        assert_eq!(
            safe.unwrap().rewritten("http://a/b?c=1"),
            "https://safe.example/?u=http%3A%2F%2Fa%2Fb%3Fc%3D1&v=1"
        );
    }

    #[test]
    fn links_of_a_text_are_rewritten_and_the_rest_stays() {
        let links = links("awbs://{url}");
        let text = "See (https://a.example/x), HTTP://b.example. Ours: https://www.corp.example/y; \
                    ftp://c.example, mailto:d@e.example awbs://https://f.example";
        assert_eq!(
            links.in_text(text, false),
            Some((
                "See (awbs://https://a.example/x), awbs://HTTP://b.example. Ours: \
                 https://www.corp.example/y; ftp://c.example, mailto:d@e.example \
                 awbs://https://f.example"
                    .to_owned(),
                2
            ))
        );
        assert_eq!(links.in_text("nothing here", false), None);
    }

    #[test]
    fn an_address_without_a_scheme_is_one_of_the_web() {
        let links = links("awbs://{url}");
        let text = "www.a.example/x?y=1, (WWW.b.example). Not: www.corp.example, www.x, awww.a.example, \
                    x@www.a.example, ftp://www.a.example/www.c.example, www..a.b, www. a.example";
        assert_eq!(
            links.in_text(text, false),
            Some((
                "awbs://http://www.a.example/x?y=1, (awbs://http://WWW.b.example). Not: \
                 www.corp.example, www.x, awww.a.example, x@www.a.example, \
                 ftp://www.a.example/www.c.example, www..a.b, www. a.example"
                    .to_owned(),
                2
            ))
        );
        assert_eq!(
            links.in_text("see www.a.example/ha", true),
            Some(("see ".to_owned(), 1))
        );
        let (page, count) = links.in_html("<p>www.a.example</p>", false).unwrap();
        assert_eq!(
            (page.as_str(), count),
            ("<p>awbs://http://www.a.example</p>", 1)
        );
        // What was rewritten stays: a template may have `www.` in it, and so may a link.
        let safe = Links {
            template: Template::try_from("https://www.safe.example/?u={url}".to_owned()).unwrap(),
            ..links
        };
        let (once, _) = safe.in_text("see http://www.a.example/", false).unwrap();
        assert_eq!(
            once,
            "see https://www.safe.example/?u=http://www.a.example/"
        );
        assert_eq!(safe.in_text(&once, false), None);
    }

    #[test]
    fn half_a_link_is_not_shown() {
        let links = links("awbs://{url}");
        assert_eq!(
            links.in_text("Go to https://a.example/secr", true),
            Some(("Go to ".to_owned(), 1))
        );
    }

    #[test]
    fn what_was_rewritten_is_restored() {
        for template in [
            "awbs://{url}",
            "https://safe.example/?u={url_encoded}&v=1",
            "x:{url_encoded}",
        ] {
            let links = links(template);
            let text = "a https://a.example/b?c=1 d\nhttp://e.example/";
            let (there, count) = links.in_text(text, false).unwrap();
            assert_eq!(count, 2);
            assert_eq!(
                links.template.restored(there.as_bytes(), false),
                Some((text.as_bytes().to_vec(), 2)),
                "{template}"
            );
            assert_eq!(links.template.restored(text.as_bytes(), false), None);
        }
    }

    #[test]
    fn hosts_are_those_of_the_link() {
        assert_eq!(host_of("https://user@a.example:8/x"), Some("a.example"));
        assert_eq!(
            host_of("https://corp.example@evil.example/"),
            Some("evil.example")
        );
        assert_eq!(host_of("https://[::1]/"), Some("::1"));
        assert_eq!(host_of("https:///"), None);
        assert!(is_below("WWW.Corp.example", "corp.example"));
        assert!(!is_below("notcorp.example", "corp.example"));
    }

    #[test]
    fn a_template_that_other_links_pass_for_is_refused() {
        for bad in [
            "https://{url_encoded}.safe.example/",
            "https://safe{url}",
            "http{url}",
            "www.{url}",
            "HTTPS://user@{url}",
        ] {
            let refused = Template::try_from(bad.to_owned()).unwrap_err();
            assert!(
                refused.contains("name its server whole"),
                "{bad}: {refused}"
            );
        }
    }

    /// Whoever writes what looks like a rewritten link puts nothing into the answer to it.
    #[test]
    fn nothing_but_a_link_is_restored() {
        let template = Template::try_from("https://s.example/?u={url_encoded}".to_owned()).unwrap();
        let restored = |url: &str, html| {
            let there = template.rewritten(url);
            let back = template.restored(there.as_bytes(), html);
            back.map(|(back, _)| String::from_utf8(back).unwrap())
        };
        let query = "https://a.example/?a=1&copy=2";
        assert_eq!(restored(query, false).as_deref(), Some(query));
        assert_eq!(
            restored(query, true).as_deref(),
            Some("https://a.example/?a=1&amp;copy=2")
        );
        for evil in [
            "https://a.example/\"><script>",
            "https://a.example/'",
            "https://a.example/ x",
            "https://a.example/\u{7}",
        ] {
            assert_eq!(restored(evil, true), None, "{evil}");
        }
        assert_eq!(restored("https://a.example/\r\nBcc: x", false), None);
        assert_eq!(
            template.restored(b"https://s.example/?u=https%3A%2F%2F%ff", false),
            None
        );
    }

    /// A text of nothing but beginnings of links: each letter is looked at a few times at most.
    #[test]
    fn a_text_full_of_beginnings_is_read_once() {
        for (template, piece) in [
            ("awbs://{url}", "awbs://"),
            ("awbs://{url}|end", "awbs://http://a"),
            ("x{url_encoded}", "x"),
            ("x{url_encoded}!", "xhttp%3A%2F%2F"),
            ("http://s/{url}", "http://s/http"),
        ] {
            let template = Template::try_from(template.to_owned()).unwrap();
            let text = piece.repeat((4 << 20) / piece.len());
            let (done, waits) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let restored = template.restored(text.as_bytes(), false);
                let _heard = done.send(restored.map_or(0, |(_, count)| count));
            });
            let minute = std::time::Duration::from_secs(60);
            assert!(waits.recv_timeout(minute).is_ok(), "{piece}");
        }
    }

    proptest! {
        #[test]
        fn any_text_returns(text in ".{0,80}", cut: bool) {
            let links = links("awbs://{url}");
            let _ = links.in_text(&text, cut);
            let _ = links.in_html(&text, cut);
            let _ = links.template.restored(text.as_bytes(), false);
        }

        #[test]
        fn a_link_comes_back(path in "[a-zA-Z0-9/?=&%._~-]{0,40}") {
            let url = format!("https://a.example/{path}");
            for template in ["p://{url_encoded}!", "https://safe/?{url_encoded}"] {
                let template = Template::try_from(template.to_owned()).unwrap();
                let there = template.rewritten(&url);
                prop_assert_eq!(template.restored(there.as_bytes(), false), Some((url.clone().into_bytes(), 1)));
                prop_assert_eq!(template.restored(there.as_bytes(), true), Some((url.replace('&', "&amp;").into_bytes(), 1)));
            }
        }
    }
}

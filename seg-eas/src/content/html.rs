//! Hyperlinks in HTML: the targets of elements, and addresses that stand in the text and that mail
//! programs make links of by themselves.
//!
//! A sender who wants a link of his to pass writes it in a way that a browser repairs and a simple
//! reader does not know: with character references, white space and back slashes in it, behind a
//! `<base>`, inside of `<noscript>`. What is not changed stays byte for byte.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use lol_html::errors::RewritingError;
use lol_html::html_content::{Comment, ContentType, Element, TextChunk, TextType};
use lol_html::{RewriteStrSettings, doc_comments, doc_text, element, rewrite_str, text};

use super::links::{Links, is_bare};

/// Where elements keep their targets.
const TARGETS: [(&str, &str); 6] = [
    ("a[href]", "href"),
    ("area[href]", "href"),
    ("a[xlink\\:href]", "xlink:href"),
    ("form[action]", "action"),
    ("button[formaction]", "formaction"),
    ("input[formaction]", "formaction"),
];

/// How deep `<noscript>` is looked into.
const DEPTH_MAX: usize = 3;

/// What the text belongs to that comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Page,
    /// The text of a link leads where the link leads.
    Link,
    Style,
    /// Mail programs run no scripts, so what stands here is shown.
    Noscript,
}

/// What else than of the page a text can be of; later ones hold. A link that was begun outside of a
/// cell, a button and the like may have been ended by it, and the text be of none.
const WITHIN: [(&str, Within); 11] = [
    ("a[href]", Within::Link),
    ("a[href] td", Within::Page),
    ("a[href] th", Within::Page),
    ("a[href] caption", Within::Page),
    ("a[href] button", Within::Page),
    ("a[href] object", Within::Page),
    ("a[href] marquee", Within::Page),
    ("a[href] applet", Within::Page),
    ("a[href] template", Within::Page),
    ("style", Within::Style),
    ("noscript", Within::Noscript),
];

impl Links {
    /// HTML with its links rewritten. `cut`: it was truncated; a tag that has no end is left out
    /// then, and so is half an address at the end.
    #[must_use]
    pub fn in_html(&self, html: &str, cut: bool) -> Option<(String, usize)> {
        self.in_html_at(html, cut, 0)
    }

    fn in_html_at(&self, html: &str, cut: bool, depth: usize) -> Option<(String, usize)> {
        let whole = match html.rfind('<') {
            Some(open) if cut && !html.get(open..).unwrap_or_default().contains('>') => {
                html.get(..open).unwrap_or(html)
            }
            _ => html,
        };
        let whole = if cut { self.without_half(whole) } else { whole };
        let found = if self.may_be_in_text(whole) {
            self.thoroughly(whole, depth)
        } else {
            self.quickly(whole, depth)
        };
        let Ok(found) = found else {
            // Nobody knows what a mail program makes of it: every address in it counts.
            return self.in_text(html, cut);
        };
        match found {
            Some((out, count)) => Some((out, count + usize::from(whole.len() < html.len()))),
            None => (whole.len() < html.len()).then(|| (whole.to_owned(), 1)),
        }
    }

    /// The targets of a page, rewritten.
    pub(super) fn quickly(&self, html: &str, depth: usize) -> Found {
        let pass = Pass::new(self, depth);
        let settings = targets(&pass, RewriteStrSettings::new().with_strict(false));
        pass.finish(rewrite_str(html, settings))
    }

    /// The targets of a page and the addresses in its text, rewritten.
    pub(super) fn thoroughly(&self, html: &str, depth: usize) -> Found {
        let pass = Pass::new(self, depth);
        let mut settings = targets(&pass, RewriteStrSettings::new().with_strict(false));
        for (selector, within) in &WITHIN {
            let pass = &pass;
            settings = settings.append_element_content_handler(text!(*selector, |_| {
                pass.within.set(*within);
                Ok(())
            }));
        }
        // Comes behind those of elements.
        settings = settings.append_document_content_handler(doc_text!(|chunk| {
            pass.chunk(chunk);
            Ok(())
        }));
        pass.finish(rewrite_str(html, settings))
    }

    /// A truncated page without the half of an address that its last text ends with.
    fn without_half<'h>(&self, html: &'h str) -> &'h str {
        let text = html.rfind('>').map_or(0, |tag| tag + 1);
        let decoded = Decoded::of(html.get(text..).unwrap_or_default());
        let last = self.found(&decoded.text).last().copied();
        let half = last.filter(|(begin, end)| {
            let link = decoded.text.get(*begin..*end).unwrap_or_default();
            *end == decoded.text.len() && self.rewritten(link).is_some()
        });
        let end = half.map_or(html.len(), |(begin, _)| text + decoded.raw(begin));
        html.get(..end).unwrap_or(html)
    }
}

/// A page that was changed, and in how many places; `None`: it stays as it is.
pub(super) type Found = Result<Option<(String, usize)>, RewritingError>;

/// The settings, and what is done with targets.
fn targets<'p>(
    pass: &'p Pass<'_>,
    mut settings: RewriteStrSettings<'p, 'static>,
) -> RewriteStrSettings<'p, 'static> {
    for (selector, name) in TARGETS {
        settings = settings.append_element_content_handler(element!(selector, |element| {
            pass.target(element, name);
            Ok(())
        }));
    }
    let settings = settings.append_element_content_handler(element!("base[href]", |element| {
        // Every link that names no host would lead to the one of the base.
        element.remove_attribute("href");
        pass.count.set(pass.count.get() + 1);
        Ok(())
    }));
    let settings =
        settings.append_element_content_handler(element!("meta[http-equiv][content]", |element| {
            pass.refresh(element);
            Ok(())
        }));
    settings.append_document_content_handler(doc_comments!(|comment| {
        pass.condition(comment);
        Ok(())
    }))
}

/// One reading of a page.
struct Pass<'l> {
    links: &'l Links,
    count: Cell<usize>,
    within: Cell<Within>,
    /// The text node so far.
    text: RefCell<String>,
    depth: usize,
}

impl<'l> Pass<'l> {
    fn new(links: &'l Links, depth: usize) -> Self {
        Self {
            links,
            count: Cell::new(0),
            within: Cell::new(Within::Page),
            text: RefCell::default(),
            depth,
        }
    }

    fn finish(&self, out: Result<String, RewritingError>) -> Found {
        let count = self.count.get();
        out.map(|out| (count > 0).then_some((out, count)))
    }

    fn target(&self, element: &mut Element<'_, '_>, name: &str) {
        let Some(target) = element.get_attribute(name) else {
            return;
        };
        let target = Decoded::of(&target).text;
        let new = web_link(&target).and_then(|link| self.links.rewritten(&link));
        if let Some(new) = new
            && element.set_attribute(name, &attribute(&new)).is_ok()
        {
            self.count.set(self.count.get() + 1);
        }
    }

    /// A page that leads somewhere else by itself does so no more.
    fn refresh(&self, element: &mut Element<'_, '_>) {
        let is_refresh = element
            .get_attribute("http-equiv")
            .is_some_and(|name| name.trim().eq_ignore_ascii_case("refresh"));
        let content = element.get_attribute("content").unwrap_or_default();
        let target = Decoded::of(&content).text.to_ascii_lowercase();
        if is_refresh && (target.contains("url") || target.contains("//")) {
            element.remove();
            self.count.set(self.count.get() + 1);
        }
    }

    /// What stands in a comment with a condition is part of the page for some mail programs.
    fn condition(&self, comment: &mut Comment<'_>) {
        let text = comment.text();
        let Some((condition, rest)) = text.split_once('>').filter(|(condition, _)| {
            let condition = condition.trim_start().get(..3);
            condition.is_some_and(|begin| begin.eq_ignore_ascii_case("[if"))
        }) else {
            return;
        };
        if self.depth >= DEPTH_MAX {
            return;
        }
        if let Some((new, count)) = self.links.in_html_at(rest, false, self.depth + 1)
            && comment.set_text(&format!("{condition}>{new}")).is_ok()
        {
            self.count.set(self.count.get() + count);
        }
    }

    fn chunk(&self, chunk: &mut TextChunk<'_>) {
        let within = self.within.replace(Within::Page);
        let looked_at = match chunk.text_type() {
            TextType::Data | TextType::PlainText | TextType::CDataSection => within != Within::Link,
            TextType::RawText => within != Within::Style,
            TextType::RCData | TextType::ScriptData => false,
        };
        if !looked_at {
            return;
        }
        let mut text = self.text.borrow_mut();
        text.push_str(chunk.as_str());
        if !chunk.last_in_text_node() {
            chunk.remove();
            return;
        }
        let text = std::mem::take(&mut *text);
        let new = if within == Within::Noscript && self.depth < DEPTH_MAX {
            self.links.in_html_at(&text, false, self.depth + 1)
        } else {
            self.links.in_html_text(&text)
        };
        let text = match new {
            Some((new, count)) => {
                self.count.set(self.count.get() + count);
                new
            }
            None => text,
        };
        chunk.replace(&text, ContentType::Html);
    }
}

impl Links {
    /// The addresses in a text of HTML, rewritten.
    fn in_html_text(&self, raw: &str) -> Option<(String, usize)> {
        let decoded = Decoded::of(raw);
        let (mut out, mut copied, mut count) = (String::new(), 0, 0);
        for (begin, end) in self.found(&decoded.text) {
            let link = decoded.text.get(begin..end).unwrap_or_default();
            let Some(new) = self.rewritten(link) else {
                continue;
            };
            out.push_str(raw.get(copied..decoded.raw(begin)).unwrap_or_default());
            out.push_str(&attribute(&new));
            copied = decoded.raw(end);
            count += 1;
        }
        if count == 0 {
            return None;
        }
        out.push_str(raw.get(copied..).unwrap_or_default());
        Some((out, count))
    }
}

/// An address as it is written in HTML.
fn attribute(address: &str) -> Cow<'_, str> {
    if memchr::memchr(b'&', address.as_bytes()).is_none() {
        return Cow::Borrowed(address);
    }
    Cow::Owned(address.replace('&', "&amp;"))
}

/// A text with its character references resolved.
pub(super) struct Decoded<'t> {
    pub(super) text: Cow<'t, str>,
    /// Behind each reference: the place in the text, and in what it was made of.
    behind: Vec<(usize, usize)>,
}

impl<'t> Decoded<'t> {
    pub(super) fn of(raw: &'t str) -> Self {
        let mut decoded = Self {
            text: Cow::Borrowed(raw),
            behind: Vec::new(),
        };
        if memchr::memchr(b'&', raw.as_bytes()).is_none() {
            return decoded;
        }
        let (mut text, mut copied) = (String::with_capacity(raw.len()), 0);
        for at in memchr::memchr_iter(b'&', raw.as_bytes()) {
            let rest = raw.get(at + 1..).unwrap_or_default();
            let Some((character, length)) = reference(rest) else {
                continue;
            };
            text.push_str(raw.get(copied..at).unwrap_or_default());
            text.push(character);
            copied = at + 1 + length;
            decoded.behind.push((text.len(), copied));
        }
        text.push_str(raw.get(copied..).unwrap_or_default());
        decoded.text = Cow::Owned(text);
        decoded
    }

    /// Where something stands in what the text was made of.
    fn raw(&self, at: usize) -> usize {
        let next = self.behind.partition_point(|(text, _)| *text <= at);
        let before = next.checked_sub(1).and_then(|last| self.behind.get(last));
        before.map_or(at, |(text, raw)| raw + (at - text))
    }
}

/// The references that can stand in an address or end one (HTML, "named character references").
const NAMED: [(&str, char); 22] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("colon", ':'),
    ("sol", '/'),
    ("bsol", '\\'),
    ("period", '.'),
    ("quest", '?'),
    ("equals", '='),
    ("num", '#'),
    ("percnt", '%'),
    ("lowbar", '_'),
    ("commat", '@'),
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("plus", '+'),
    ("semi", ';'),
    ("comma", ','),
    ("excl", '!'),
];

/// Older ones that need no semicolon.
const BARE: [&str; 5] = ["amp", "lt", "gt", "quot", "nbsp"];

/// The character of a reference and how long it is behind its `&`.
fn reference(rest: &str) -> Option<(char, usize)> {
    let Some(number) = rest.strip_prefix('#') else {
        let named = NAMED.iter().find(|(name, _)| {
            rest.strip_prefix(name)
                .is_some_and(|behind| behind.starts_with(';'))
        });
        if let Some((name, character)) = named {
            return Some((*character, name.len() + 1));
        }
        // Before a letter, digit or `=` it is part of a query (HTML 13.2.5.73).
        let (name, character) = NAMED.iter().find(|(name, _)| {
            BARE.contains(name)
                && rest.strip_prefix(name).is_some_and(|behind| {
                    !behind.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '=')
                })
        })?;
        return Some((*character, name.len()));
    };
    let (digits, radix, marks) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16, 2),
        None => (number, 10, 1),
    };
    let length = digits
        .bytes()
        .take_while(|byte| char::from(*byte).is_digit(radix))
        .count();
    // Leading zeros may be many.
    let value = digits.get(..length)?.trim_start_matches('0');
    let code = u32::from_str_radix(value.get(..value.len().min(8))?, radix).ok()?;
    let semicolon = usize::from(digits.get(length..)?.starts_with(';'));
    let character = char::from_u32(code).unwrap_or('\u{fffd}');
    Some((character, marks + length + semicolon))
}

/// The address that a browser makes of a target, where it leads to the web (WHATWG URL: white space
/// goes, slashes lean either way, and there may be any number of them).
fn web_link(target: &str) -> Option<Cow<'_, str>> {
    let trimmed = target.trim_matches(|edge: char| edge <= ' ');
    let link: Cow<'_, str> = if trimmed.contains(['\t', '\n', '\r']) {
        Cow::Owned(trimmed.replace(['\t', '\n', '\r'], ""))
    } else {
        Cow::Borrowed(trimmed)
    };
    // A mail has no place of its own: what names a host and no scheme leads to the web.
    if link.starts_with(['/', '\\']) {
        let place = link.trim_start_matches(['/', '\\']);
        let is_host = link.len() > place.len() + 1 && !place.is_empty();
        return is_host.then(|| Cow::Owned(format!("https://{place}")));
    }
    if is_bare(link.as_bytes()) {
        return Some(link);
    }
    let colon = link.find(':')?;
    let scheme = link.get(..colon)?;
    if !["http", "https"]
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web))
    {
        return None;
    }
    let behind = link.get(colon + 1..)?;
    let place = behind.trim_start_matches(['/', '\\']);
    if behind.len() == place.len() + 2 && behind.starts_with("//") {
        return Some(link);
    }
    Some(Cow::Owned(format!("{scheme}://{place}")))
}

#[cfg(test)]
mod tests {
    use super::super::links::Template;
    use super::*;
    use proptest::prelude::*;

    fn links(template: &str) -> Links {
        Links {
            template: Template::try_from(template.to_owned()).unwrap(),
            domains: None,
            except_domains: vec!["corp.example".to_owned()],
        }
    }

    fn rewritten(html: &str) -> Option<String> {
        let links = links("awbs://{url}");
        links.in_html(html, false).map(|(html, _)| html)
    }

    #[test]
    fn targets_are_rewritten_and_the_rest_stays() {
        let links = links("https://safe.example/?u={url_encoded}");
        let html = "<p class=x>&nbsp;<A HREF='https://a.example/?b=1&amp;c=2'>t</A>\
                    <a href=\"https://corp.example\">o</a><img src=\"https://a.example/i\"></p>";
        let (new, count) = links.in_html(html, false).unwrap();
        assert_eq!(count, 1);
        assert_eq!(
            new,
            "<p class=x>&nbsp;<A HREF=\"https://safe.example/?u=https%3A%2F%2Fa.example%2F%3Fb%3D1%26c%3D2\">t</A>\
             <a href=\"https://corp.example\">o</a><img src=\"https://a.example/i\"></p>"
        );
    }

    #[test]
    fn addresses_in_the_text_are_links_too() {
        for (html, new) in [
            (
                "top https://a.example/x, <p>and &lt;https://b.example/?c=1&amp;d=2&gt;&nbsp;more</p>",
                "top awbs://https://a.example/x, <p>and &lt;awbs://https://b.example/?c=1&amp;d=2&gt;&nbsp;more</p>",
            ),
            (
                "<td>https&#58;&sol;&#x2F;a.example</td>",
                "<td>awbs://https://a.example</td>",
            ),
            (
                "<noscript><a href=https://a.example>x</a> https://b.example </noscript>",
                "<noscript><a href=\"awbs://https://a.example\">x</a> awbs://https://b.example </noscript>",
            ),
            // A cell ends the link that began in it.
            (
                "<table><tr><td><a href='https://corp.example'>x<td>https://a.example</table>",
                "<table><tr><td><a href='https://corp.example'>x<td>awbs://https://a.example</table>",
            ),
        ] {
            assert_eq!(rewritten(html).as_deref(), Some(new), "{html}");
        }
        for html in [
            "<a href='https://corp.example/'>https://a.example</a>",
            "<table><tr><td><a href='https://corp.example/'><b>https://a.example</b></a></td></table>",
            "<style>@import url(https://a.example)</style><script>'https://a.example'</script>",
            "<p>https://corp.example and nothing else &amp; more</p>",
        ] {
            assert_eq!(rewritten(html), None, "{html}");
        }
    }

    #[test]
    fn what_a_browser_repairs_is_no_way_around() {
        for target in [
            "https://evil.example/",
            "&#104;ttps://evil.example/",
            " ht\ntps:\t//evil.example/",
            "https:\\\\evil.example/",
            "HTTPS:/evil.example/",
            "https:evil.example/",
            "https&colon;//evil&period;example/",
            "//evil.example/",
            "\\/evil.example/",
            " \t//evil.example/",
        ] {
            let new = rewritten(&format!("<a href=\"{target}\">x</a>")).expect(target);
            assert!(
                new.contains("href=\"awbs://http") || new.contains("href=\"awbs://HTTP"),
                "{new}"
            );
            assert!(new.contains("//evil.example/"), "{new}");
        }
        assert_eq!(
            rewritten("<base href='https://evil.example/'><a href=x>x</a>").as_deref(),
            Some("<base><a href=x>x</a>")
        );
        let (two, _) = links("awbs://{url}")
            .in_html(
                "<a href='www.evil.example' href='https://corp.example'>x</a>",
                false,
            )
            .unwrap();
        assert!(
            two.contains("href=\"awbs://http://www.evil.example\""),
            "{two}"
        );
        for local in [
            "/x",
            "x/y.html",
            "#top",
            "mailto:a@b.example",
            "/",
            "//",
            "?a=//b",
        ] {
            assert_eq!(
                rewritten(&format!("<a href='{local}'>x</a>")),
                None,
                "{local}"
            );
        }
        for meta in [
            "<meta http-equiv=refresh content='0;url=https://evil.example'>",
            "<META CONTENT=\"0; &#117;rl=//evil.example\" HTTP-EQUIV=' Refresh'>",
        ] {
            let page = format!("<head>{meta}</head>x");
            assert_eq!(
                rewritten(&page).as_deref(),
                Some("<head></head>x"),
                "{meta}"
            );
        }
        assert_eq!(
            rewritten("<meta http-equiv=content-type content='text/html'>"),
            None
        );
        for (page, new) in [
            (
                "<!--[if mso]><a href=\"https://evil.example\">x</a><![endif]-->",
                "<!--[if mso]><a href=\"awbs://https://evil.example\">x</a><![endif]-->",
            ),
            (
                "<!-- [IF !x]>https://evil.example <![endif]-->",
                "<!-- [IF !x]>awbs://https://evil.example <![endif]-->",
            ),
        ] {
            assert_eq!(rewritten(page).as_deref(), Some(new));
        }
        let nested = format!(
            "{}<a href='https://evil.example'>",
            "<!--[if x]>".repeat(100_000)
        );
        let _shallow = rewritten(&nested);
        // Parsers disagree about this one.
        let odd = "<select><xmp><script>'use strict'</script></select><a href='https://evil.example'>x</a>";
        assert!(
            rewritten(odd).is_some_and(|new| new.contains("awbs://")),
            "{odd}"
        );
    }

    #[test]
    fn half_a_link_is_not_shown() {
        let links = links("awbs://{url}");
        for (html, left) in [
            ("<p>Go <a href=\"https://a.example/secr", Some("<p>Go ")),
            ("<p>Go to https://a.example/secr", Some("<p>Go to ")),
            ("<p>Go to https&#58;//a.example/secr", Some("<p>Go to ")),
            ("<p>Go", None),
        ] {
            let new = links.in_html(html, true);
            assert_eq!(new.as_ref().map(|(new, _)| new.as_str()), left, "{html}");
        }
    }

    #[test]
    fn references_are_found_where_they_stand() {
        let decoded = Decoded::of("a&amp;b&#x41;&copy;&#00065&");
        assert_eq!(decoded.text, "a&bA&copy;A&");
        assert_eq!(decoded.raw(0), 0);
        assert_eq!(decoded.raw(1), 1);
        assert_eq!(decoded.raw(2), 6);
        assert_eq!(decoded.raw(4), 13);
        assert_eq!(Decoded::of("a&lt=1&ampx").text, "a&lt=1&ampx");
    }

    proptest! {
        #[test]
        fn any_page_returns(html in "[<>/a-z =\"'&#;:.!-]{0,80}", cut: bool) {
            let _ = links("awbs://{url}").in_html(&html, cut);
        }

        #[test]
        fn what_holds_no_link_stays(words in "[a-z &;<>/p]{0,60}") {
            prop_assert_eq!(rewritten(&words), None);
        }
    }
}

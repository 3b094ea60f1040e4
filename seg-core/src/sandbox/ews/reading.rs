//! What is taken from a SOAP request: found by its text, not parsed. Deliberately not seg-ews.

/// One start tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Tag<'b> {
    /// The name without its prefix.
    pub(super) name: &'b str,
    attributes: &'b str,
    /// The text up to the next tag, with its entities.
    pub(super) text: &'b str,
}

impl<'b> Tag<'b> {
    /// An attribute's value, with its entities.
    pub(super) fn attribute(&self, name: &str) -> Option<&'b str> {
        let mut rest = self.attributes;
        loop {
            let (before, behind) = rest.split_once('=')?;
            let quote = behind
                .chars()
                .next()
                .filter(|first| matches!(first, '"' | '\''))?;
            let (value, next) = behind.get(1..)?.split_once(quote)?;
            if before.trim() == name {
                return Some(value);
            }
            rest = next;
        }
    }
}

/// Every start tag in order.
pub(super) fn tags(body: &str) -> impl Iterator<Item = Tag<'_>> {
    body.split('<').skip(1).filter_map(|piece| {
        let (tag, text) = piece.split_once('>')?;
        let tag = tag.strip_suffix('/').unwrap_or(tag);
        if tag.starts_with(['/', '!', '?']) {
            return None;
        }
        let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        let name = name.rsplit(':').next().unwrap_or(name);
        Some(Tag {
            name,
            attributes,
            text,
        })
    })
}

/// The name of the first element in the SOAP body.
pub(in crate::sandbox) fn operation(body: &[u8]) -> Option<&str> {
    let body = std::str::from_utf8(body).ok()?;
    let mut tags = tags(body);
    tags.find(|tag| tag.name == "Body")?;
    tags.next().map(|tag| tag.name)
}

/// The text of the first element of this name.
pub(super) fn text<'b>(body: &'b str, name: &str) -> Option<&'b str> {
    tags(body)
        .find(|tag| tag.name == name)
        .map(|tag| tag.text.trim())
}

/// The values of `Id` of every element of these names, in order.
pub(super) fn ids<'b>(body: &'b str, names: &[&str]) -> Vec<&'b str> {
    tags(body)
        .filter(|tag| names.contains(&tag.name))
        .filter_map(|tag| tag.attribute("Id"))
        .collect()
}

/// The values of `Id` of the elements right inside `list`, as long as they have these names.
pub(super) fn ids_in<'b>(body: &'b str, list: &str, names: &[&str]) -> Vec<&'b str> {
    tags(body)
        .skip_while(|tag| tag.name != list)
        .skip(1)
        .take_while(|tag| names.contains(&tag.name))
        .filter_map(|tag| tag.attribute("Id"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "<?xml version='1.0'?><s:Envelope xmlns:s='x'><s:Header/><s:Body>\
        <GetFolder xmlns=\"m\"><FolderIds><t:DistinguishedFolderId Id='inbox'/>\
        <t:FolderId ChangeKey=\"c\" Id=\"f &amp; g\" /></FolderIds>\
        <t:Max> 5 </t:Max></GetFolder></s:Body></s:Envelope>";

    #[test]
    fn the_facts_are_found() {
        assert_eq!(operation(REQUEST.as_bytes()), Some("GetFolder"));
        assert_eq!(operation(b"<a/>"), None);
        assert_eq!(
            ids(REQUEST, &["DistinguishedFolderId", "FolderId"]),
            ["inbox", "f &amp; g"]
        );
        assert_eq!(text(REQUEST, "Max"), Some("5"));
        let names = ["DistinguishedFolderId", "FolderId"];
        assert_eq!(ids_in(REQUEST, "FolderIds", &names), ["inbox", "f &amp; g"]);
        assert_eq!(ids_in(REQUEST, "FolderIds", &names[..1]), ["inbox"]);
        assert!(ids_in(REQUEST, "ItemIds", &names).is_empty());
    }
}

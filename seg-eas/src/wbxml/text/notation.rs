//! The words of the readable form, for both directions.

/// The namespace of everything that XML has no word for.
pub(super) const NAMESPACE: &str = "urn:x-wbxml";
/// The root around a body without header.
pub(super) const FRAGMENT: &str = "fragment";

/// An element that the code pages don't have.
pub(super) const TAG: &str = "tag";
/// Content that is not the only content of its element.
pub(super) const DATA: &str = "data";
/// SWITCH_PAGE before an END, and, as an attribute, before what it stands on.
pub(super) const SWITCH: &str = "switch";

pub(super) const OPAQUE: &str = "opaque";
pub(super) const TEXT: &str = "text";
pub(super) const TABLE: &str = "table";
pub(super) const OCTETS: &str = "octets";
pub(super) const CONTENT: &str = "content";
pub(super) const NONE: &str = "none";
pub(super) const HEADER: &str = "header";
pub(super) const PAGE: &str = "page";
pub(super) const PAGES: &str = "pages";
pub(super) const TOKEN: &str = "token";
pub(super) const BASE64: &str = "base64";

/// How many bytes an mb_u_int32 takes when none is wasted.
pub(super) const fn needed_octets(value: usize) -> usize {
    let mut octets = 1;
    let mut rest = value >> 7;
    while rest > 0 {
        octets += 1;
        rest >>= 7;
    }
    octets
}

//! The code pages of ActiveSync (MS-ASWBXML 2.1.2.1): 26 pages, 655 tokens.
//!
//! A tag on the wire is a *token* of six bits in the current *code page*. Everything in this crate
//! that decides something keys on [`Tag`], which is that pair of numbers; names are for people,
//! because they have changed between editions of the specification while the numbers have not.
//!
//! The table stands in four files, one token a line, in the order of MS-ASWBXML:
//!
//! ```text
//! t(token, "Name", protocol versions, kind of content).or(&["older or other name", …])
//! ```
//!
//! 586 tokens come from MS-ASWBXML v22.2. The 69 others are marked [`Versions::is_legacy`]: older
//! editions and implementations know them, the current specification does not.

mod pages_0_to_4;
mod pages_14_to_17;
mod pages_18_to_25;
mod pages_5_to_13;
mod versions;

use crate::ProtocolVersion;
use std::fmt;

/// Number of code pages that MS-ASWBXML 2.1.2.1 defines; pages are numbered from 0.
pub const PAGE_COUNT: usize = 26;

/// Number of token values a page can hold (six bits; 0x00 to 0x04 are never tags).
pub(super) const TOKENS_PER_PAGE: usize = 64;

/// The smallest token that is a tag; those below are WBXML's global tokens.
const FIRST_TAG_TOKEN: u8 = 0x05;

/// Every code page, by its number.
pub static PAGES: [Page; PAGE_COUNT] = [
    pages_0_to_4::AIR_SYNC,
    pages_0_to_4::CONTACTS,
    pages_0_to_4::EMAIL,
    pages_0_to_4::AIR_NOTIFY,
    pages_0_to_4::CALENDAR,
    pages_5_to_13::MOVE,
    pages_5_to_13::GET_ITEM_ESTIMATE,
    pages_5_to_13::FOLDER_HIERARCHY,
    pages_5_to_13::MEETING_RESPONSE,
    pages_5_to_13::TASKS,
    pages_5_to_13::RESOLVE_RECIPIENTS,
    pages_5_to_13::VALIDATE_CERT,
    pages_5_to_13::CONTACTS2,
    pages_5_to_13::PING,
    pages_14_to_17::PROVISION,
    pages_14_to_17::SEARCH,
    pages_14_to_17::GAL,
    pages_14_to_17::AIR_SYNC_BASE,
    pages_18_to_25::SETTINGS,
    pages_18_to_25::DOCUMENT_LIBRARY,
    pages_18_to_25::ITEM_OPERATIONS,
    pages_18_to_25::COMPOSE_MAIL,
    pages_18_to_25::EMAIL2,
    pages_18_to_25::NOTES,
    pages_18_to_25::RIGHTS_MANAGEMENT,
    pages_18_to_25::FIND,
];

/// A tag as the wire has it: the code page and the token within it, flag bits removed.
///
/// A `Tag` may be unknown to the table; [`Tag::definition`] tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    page: u8,
    token: u8,
}

impl Tag {
    /// The tag `token` of code page `page`. The two flag bits of `token` are dropped.
    #[must_use]
    pub const fn new(page: u8, token: u8) -> Self {
        Self {
            page,
            token: token & 0x3F,
        }
    }

    /// The code page, 0 to 25 for the pages of MS-ASWBXML.
    #[must_use]
    pub const fn page(self) -> u8 {
        self.page
    }

    /// The token within the page, without its flag bits.
    #[must_use]
    pub const fn token(self) -> u8 {
        self.token
    }

    /// What the table knows about this tag; `None` for an unknown page or token.
    #[must_use]
    pub fn definition(self) -> Option<&'static Token> {
        *BY_TAG
            .get(usize::from(self.page))?
            .get(usize::from(self.token))?
    }

    /// The tag that a namespace and a name stand for, as `seg wbxml encode` reads them: the name
    /// of the specification first, else an alias. The namespace is compared without case (page 16
    /// is `Gal` in one Microsoft document and `GAL` in others) and without a closing colon, which
    /// libwbxml writes; the name is compared as it is.
    #[must_use]
    pub fn from_name(namespace: &str, name: &str) -> Option<Self> {
        let namespace = namespace.strip_suffix(':').unwrap_or(namespace);
        let page = PAGES
            .iter()
            .find(|page| page.namespace.eq_ignore_ascii_case(namespace))?;
        page.token_named(name)
            .map(|token| Self::new(page.number, token.token))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.definition() {
            Some(token) => write!(f, "{}:0x{:02X}({})", self.page, self.token, token.name),
            None => write!(f, "{}:0x{:02X}", self.page, self.token),
        }
    }
}

/// One code page.
#[derive(Debug)]
pub struct Page {
    number: u8,
    namespace: &'static str,
    tokens: &'static [Token],
}

impl Page {
    /// The page of this number; `None` from 26 on.
    #[must_use]
    pub fn of(number: u8) -> Option<&'static Self> {
        PAGES.get(usize::from(number))
    }

    /// The number that SWITCH_PAGE names on the wire.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// The XML namespace, for example `AirSync`.
    #[must_use]
    pub const fn namespace(&self) -> &'static str {
        self.namespace
    }

    /// The tokens in ascending order.
    #[must_use]
    pub const fn tokens(&self) -> &'static [Token] {
        self.tokens
    }

    fn token_named(&self, name: &str) -> Option<&'static Token> {
        let by_name = self.tokens.iter().find(|token| token.name == name);
        by_name.or_else(|| {
            self.tokens
                .iter()
                .find(|token| token.aliases.contains(&name))
        })
    }
}

/// One line of the table.
#[derive(Debug)]
pub struct Token {
    token: u8,
    name: &'static str,
    versions: Versions,
    kind: Kind,
    aliases: &'static [&'static str],
}

impl Token {
    /// The token's number within its page, 0x05 to 0x3F.
    #[must_use]
    pub const fn token(&self) -> u8 {
        self.token
    }

    /// The name in the current edition of MS-ASWBXML.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The protocol versions that the specification gives the token.
    #[must_use]
    pub const fn versions(&self) -> Versions {
        self.versions
    }

    /// What stands between the tag and its end.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Other names for the same number, from older editions and other implementations.
    #[must_use]
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }
}

/// One line of the table, without aliases.
const fn t(token: u8, name: &'static str, versions: Versions, kind: Kind) -> Token {
    Token {
        token,
        name,
        versions,
        kind,
        aliases: &[],
    }
}

/// What an element holds on the wire, according to Microsoft's schemas.
///
/// Numbers, booleans and dates are all text on the wire (MS-ASWBXML 2.1.2.1, MS-ASDTYPE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Other elements only.
    Container,
    /// A string, STR_I.
    Text,
    /// Elements or text, depending on the place or the protocol version.
    Mixed,
    /// A byte array, OPAQUE (MS-ASDTYPE 2.7.1).
    Opaque,
    /// Text by the specification, yet seen as OPAQUE: both are accepted, and whichever was read is
    /// written again.
    MaybeOpaque,
    /// No published schema says.
    Unknown,
}

/// The protocol versions that know a token: a set over the seven versions of MS-ASWBXML.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Versions(u8);

impl Versions {
    /// Whether the specification gives the token to protocol `version`.
    #[must_use]
    pub fn contains(self, version: ProtocolVersion) -> bool {
        versions::NUMBERED
            .iter()
            .any(|&(known, bit)| known == version && self.0 & bit != 0)
    }

    /// Whether only older editions and other implementations know the token.
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                versions::NUMBERED
                    .iter()
                    .filter(|(_, bit)| self.0 & bit != 0)
                    .map(|(version, _)| version),
            )
            .finish()
    }
}

/// The table again, indexed by page and token.
static BY_TAG: [[Option<&'static Token>; TOKENS_PER_PAGE]; PAGE_COUNT] = index();

/// For each page one bit per known token: the reader's test, cheaper than the table.
pub(super) static KNOWN_TOKENS: [u64; PAGE_COUNT] = known_tokens();

const fn index() -> [[Option<&'static Token>; TOKENS_PER_PAGE]; PAGE_COUNT] {
    let mut table = [[None; TOKENS_PER_PAGE]; PAGE_COUNT];
    let mut page = 0;
    while page < PAGE_COUNT {
        let tokens = PAGES[page].tokens;
        assert!(
            PAGES[page].number as usize == page,
            "a page stands in the wrong place"
        );
        let mut at = 0;
        while at < tokens.len() {
            let token = &tokens[at];
            assert!(
                token.token >= FIRST_TAG_TOKEN,
                "a global token can't be a tag"
            );
            table[page][token.token as usize] = Some(token);
            at += 1;
        }
        page += 1;
    }
    table
}

const fn known_tokens() -> [u64; PAGE_COUNT] {
    let mut known = [0; PAGE_COUNT];
    let mut page = 0;
    while page < PAGE_COUNT {
        let tokens = PAGES[page].tokens;
        let mut at = 0;
        while at < tokens.len() {
            known[page] |= 1 << tokens[at].token;
            at += 1;
        }
        page += 1;
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_has_26_pages_and_655_tokens_in_ascending_order() {
        let mut total = 0;
        let mut legacy = 0;
        for (number, page) in PAGES.iter().enumerate() {
            assert_eq!(usize::from(page.number), number);
            assert!(
                page.tokens
                    .windows(2)
                    .all(|pair| pair[0].token < pair[1].token)
            );
            assert!(page.tokens.iter().all(|token| token.token < 0x40));
            total += page.tokens.len();
            legacy += page
                .tokens
                .iter()
                .filter(|token| token.versions.is_legacy())
                .count();
        }
        assert_eq!((total, legacy), (655, 69));
    }

    #[test]
    fn a_name_or_alias_stands_for_one_token_of_its_page() {
        for page in &PAGES {
            let mut seen = HashSet::new();
            for token in page.tokens {
                let tag = Tag::new(page.number, token.token);
                assert_eq!(Tag::from_name(page.namespace, token.name), Some(tag));
                assert!(seen.insert(token.name), "{} twice", token.name);
                for alias in token.aliases {
                    assert_eq!(Tag::from_name(page.namespace, alias), Some(tag), "{alias}");
                    assert!(seen.insert(alias), "{alias} twice");
                }
            }
        }
    }

    #[test]
    fn lookup_by_number_finds_every_token_and_nothing_else() {
        let mut found = 0;
        for page in 0..=u8::MAX {
            for token in 0..=0x3F {
                let Some(definition) = Tag::new(page, token).definition() else {
                    let known = KNOWN_TOKENS.get(usize::from(page)).copied().unwrap_or(0);
                    assert_eq!(known >> token & 1, 0);
                    continue;
                };
                assert_eq!(definition.token, token);
                assert_eq!(KNOWN_TOKENS[usize::from(page)] >> token & 1, 1);
                found += 1;
            }
        }
        assert_eq!(found, 655);
    }

    #[test]
    fn namespaces_are_found_in_any_case_and_with_libwbxmls_colon() {
        let data = Some(Tag::new(16, 0x12));
        for namespace in ["GAL", "Gal", "gal", "GAL:"] {
            assert_eq!(Tag::from_name(namespace, "Data"), data);
        }
        assert_eq!(Tag::from_name("GAL", "data"), None);
        assert_eq!(Tag::from_name("Nothing", "Data"), None);
    }

    #[test]
    fn versions_of_a_token_are_those_of_the_specification() {
        let wait = Tag::new(0, 0x24).definition().unwrap();
        assert_eq!(wait.name, "Wait");
        assert!(wait.versions.contains(ProtocolVersion::V12_1));
        assert!(!wait.versions.contains(ProtocolVersion::V12_0));
        assert_eq!(
            format!("{:?}", Tag::new(25, 0x20).definition().unwrap().versions),
            "[16.1]"
        );
    }
}

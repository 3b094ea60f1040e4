//! How much a reader lets through.

/// Bounds on what a [`super::Reader`] accepts. Each violation is an error of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How deep elements may be nested.
    pub depth: u32,
    /// How long a string table may be, in bytes. ActiveSync uses none.
    pub string_table: u32,
    /// What becomes of tags that are not in [`super::pages`].
    pub unknown_tags: UnknownTags,
}

/// What becomes of a page or a token that the table does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownTags {
    /// They are read like any other, and counted.
    Pass,
    /// They are an error.
    Refuse,
}

impl Limits {
    /// For traffic: depth 32, no string table, unknown tags pass and are counted.
    pub const TRAFFIC: Self = Self {
        depth: 32,
        string_table: 0,
        unknown_tags: UnknownTags::Pass,
    };

    /// For people who look at a message: as [`Limits::TRAFFIC`], with string tables up to 64 KiB.
    pub const INSPECTION: Self = Self {
        string_table: 64 * 1024,
        ..Self::TRAFFIC
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::TRAFFIC
    }
}

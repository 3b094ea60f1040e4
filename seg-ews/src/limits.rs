//! How much a request may ask of the scanner.

/// Bounds on one document. Every allocation of the scanner is bounded by them, whatever the length
/// of the body, which is itself no concern of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting of elements; the root is 1.
    pub depth: usize,
    /// Longest single tag or processing instruction, in bytes of UTF-8.
    pub markup_bytes: usize,
    /// Longest element or attribute name with its prefix, in bytes.
    pub name_bytes: usize,
    /// Most attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Longest attribute value as written, in bytes.
    pub attribute_bytes: usize,
    /// Longest name of a namespace, in bytes.
    pub namespace_bytes: usize,
    /// Most namespace declarations in scope at once.
    pub namespaces: usize,
    /// Longest value read out of the document (address, URL, subscription id), in bytes.
    pub value_bytes: usize,
    /// All values read out of one document together, in bytes.
    pub values_bytes: usize,
    /// Most values read out of one document.
    pub values: usize,
}

impl Default for Limits {
    /// Far above what any client sends, far below what would hurt.
    fn default() -> Self {
        Self {
            depth: 64,
            markup_bytes: 64 * 1024,
            name_bytes: 256,
            attributes: 64,
            attribute_bytes: 16 * 1024,
            namespace_bytes: 1024,
            namespaces: 64,
            value_bytes: 8 * 1024,
            values_bytes: 256 * 1024,
            values: 1024,
        }
    }
}

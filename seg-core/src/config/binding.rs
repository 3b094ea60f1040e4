//! `binding.*`: which device is whose, and what is done with a copy.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::value::{BindingMode, BindingPart, SuspectAction};

/// How devices are bound to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `binding.mode`.
    pub mode: BindingMode,
    /// `binding.path`.
    pub path: Option<PathBuf>,
    /// `binding.compare`.
    pub compare: Vec<BindingPart>,
    /// `binding.suspect`.
    pub suspect: SuspectAction,
    /// `binding.certificate.renewal.days`: how long before its end a certificate may be followed
    /// by another one.
    pub renewal: Duration,
    /// `binding.places.changes`.
    pub place_changes: usize,
    /// `binding.places.seconds`.
    pub place_window: Duration,
}

impl Binding {
    /// Whether devices are looked at.
    pub fn is_on(&self) -> bool {
        self.mode != BindingMode::Off
    }

    /// Whether this part of a request must agree.
    pub fn compares(&self, part: BindingPart) -> bool {
        self.compare.contains(&part)
    }
}

/// Reads the keys.
pub(super) fn read(reader: &mut Reader<'_>) -> Binding {
    let binding = Binding {
        mode: reader.read("binding.mode", BindingMode::parse),
        path: reader.path("binding.path"),
        compare: reader.list("binding.compare", BindingPart::parse),
        suspect: reader.read("binding.suspect", SuspectAction::parse),
        renewal: Duration::from_secs(86_400 * reader.whole("binding.certificate.renewal.days")),
        place_changes: usize::try_from(reader.whole("binding.places.changes"))
            .unwrap_or(usize::MAX),
        place_window: reader.seconds("binding.places.seconds"),
    };
    match (binding.mode, &binding.path) {
        (BindingMode::Configured, None) => reader.refuse(
            "binding.path",
            "is empty, but binding.mode=configured lets in only what stands there",
        ),
        (BindingMode::Off, Some(_)) => {
            reader.warn("binding.path", "has no effect while binding.mode is off");
        }
        _ => {}
    }
    binding
}

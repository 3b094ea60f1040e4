//! The protocol firewall: `[eas]` of policies.toml.
//!
//! What a gateway lets through of ActiveSync before any content is looked at: which commands and
//! versions, how much at once, and only bodies that are what they say they are. The table's
//! presence turns the check of bodies on; every other rule is off until it is written.

mod check;
mod violation;

pub use check::Check;
pub use violation::Violation;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::folders::FolderRule;
use crate::wbxml::{Limits, UnknownTags};
use crate::{Command, ProtocolVersion};

/// `[eas]`, as it stands in policies.toml.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firewall {
    /// The commands that are let through; absent: all.
    pub commands: Option<Vec<CommandName>>,
    /// The protocol versions that are let through; absent: all.
    pub versions: Option<Vec<VersionName>>,
    /// The largest body in bytes: `default`, and by command.
    pub body_max_bytes: BTreeMap<BodyOf, u64>,
    /// What becomes of code pages and tokens that no edition of the specification knows.
    pub unknown_tags: Unknown,
    /// The longest string table in bytes. ActiveSync uses none.
    pub string_table_max_bytes: u32,
    /// Search and fetch in document libraries, links to UNC paths and web folders, and credentials
    /// in Options.
    pub document_library: Access,
    /// How many Pings a device may have open; 0: any number.
    pub max_pings: u32,
    /// How many requests a device may make in a minute; 0: any number.
    pub requests_per_minute: u32,
    /// How a device is told that it asks too often.
    pub when_busy: Busy,
    /// How long such a device is asked to wait.
    pub retry_after_seconds: u32,
    /// What a quarantined device is told.
    pub quarantine: QuarantineNotice,
    /// Folders that a device does not see, or can't change.
    pub folders: Vec<FolderRule>,
}

impl Default for Firewall {
    fn default() -> Self {
        Self {
            commands: None,
            versions: None,
            body_max_bytes: BTreeMap::new(),
            unknown_tags: Unknown::Pass,
            string_table_max_bytes: 0,
            document_library: Access::Refuse,
            max_pings: 0,
            requests_per_minute: 0,
            when_busy: Busy::Http,
            retry_after_seconds: 60,
            quarantine: QuarantineNotice::default(),
            folders: Vec::new(),
        }
    }
}

/// `[eas.quarantine]`: the one message of a quarantined device. `{reason}`, `{device}` and `{user}`
/// stand for what they say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuarantineNotice {
    /// Who sends it; absent: postmaster of the user's domain.
    pub from: Option<String>,
    /// Its subject.
    pub subject: String,
    /// What it says.
    pub text: String,
}

impl Default for QuarantineNotice {
    fn default() -> Self {
        Self {
            from: None,
            subject: "Your device is waiting for approval".to_owned(),
            text: "Mail, calendar and contacts do not reach this device yet: it is held in \
                   quarantine.\n\nReason: {reason}\nDevice: {device}\n\nWhen it is released, \
                   your mail comes by itself."
                .to_owned(),
        }
    }
}

/// A command's name, as `Cmd` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CommandName(pub Command);

impl TryFrom<String> for CommandName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Command::from_name(&name).map(Self).ok_or_else(|| {
            let known: Vec<_> = Command::ALL.iter().map(|known| known.name()).collect();
            format!(
                "`{name}` is no ActiveSync command; there are {}",
                known.join(", ")
            )
        })
    }
}

/// A protocol version, as the header has it: `14.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct VersionName(pub ProtocolVersion);

impl TryFrom<String> for VersionName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        ProtocolVersion::from_header(&name)
            .map(Self)
            .ok_or_else(|| format!("`{name}` is no protocol version; write \"14.1\""))
    }
}

/// Whose largest body it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum BodyOf {
    /// Of every command that has no limit of its own.
    Any,
    /// Of this command, by its index.
    Command(usize),
}

impl TryFrom<String> for BodyOf {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if name == "default" {
            return Ok(Self::Any);
        }
        CommandName::try_from(name)
            .map(|CommandName(command)| Self::Command(command.index()))
            .map_err(|error| format!("{error}, and `default`"))
    }
}

/// What becomes of unknown pages and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// They pass and are counted.
    Pass,
    /// The request is refused.
    Refuse,
}

/// Whether something is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// It is.
    Allow,
    /// It is not.
    Refuse,
}

/// How a device is told that it asks too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Busy {
    /// HTTP 503 with Retry-After.
    Http,
    /// Status 111 (ServerErrorRetryLater) from version 14.0 on, HTTP 503 before.
    Status,
}

impl Firewall {
    /// What is wrong with a request before its body is looked at.
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn admit(
        &self,
        command: Command,
        version: Option<ProtocolVersion>,
        attachment: Option<&str>,
    ) -> Result<(), Violation> {
        if !self.allows(command) {
            return Err(Violation::Command(command));
        }
        // A request that names no version is of a client older than any that is allowed by name.
        let speaks = |allowed: &Vec<VersionName>| {
            version.is_some_and(|version| allowed.contains(&VersionName(version)))
        };
        if !self.versions.as_ref().is_none_or(speaks) {
            return Err(Violation::Version(version));
        }
        if self.document_library == Access::Refuse
            && attachment.is_some_and(|name| check::leads_away(name.as_bytes()))
        {
            return Err(Violation::Link);
        }
        Ok(())
    }

    /// Whether a command is let through.
    #[must_use]
    pub fn allows(&self, command: Command) -> bool {
        self.commands
            .as_ref()
            .is_none_or(|allowed| allowed.contains(&CommandName(command)))
    }

    /// The largest body of a command in bytes, where there is a limit.
    #[must_use]
    pub fn largest_body(&self, command: Command) -> Option<u64> {
        self.body_max_bytes
            .get(&BodyOf::Command(command.index()))
            .or_else(|| self.body_max_bytes.get(&BodyOf::Any))
            .copied()
    }

    /// The check of a WBXML body of `length` bytes, where that is known.
    #[must_use]
    pub fn check(&self, command: Command, length: Option<u64>) -> Check {
        Check::new(
            command,
            self.limits(),
            self.document_library == Access::Refuse,
            length,
        )
    }

    /// What the reader lets through.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            string_table: self.string_table_max_bytes,
            unknown_tags: match self.unknown_tags {
                Unknown::Pass => UnknownTags::Pass,
                Unknown::Refuse => UnknownTags::Refuse,
            },
            ..Limits::TRAFFIC
        }
    }

    /// `MS-ASProtocolVersions` without the versions that are not let through. `None`: as it was.
    #[must_use]
    pub fn narrowed_versions(&self, offered: &str) -> Option<String> {
        let allowed = self.versions.as_ref()?;
        narrowed(offered, |version| {
            ProtocolVersion::from_header(version)
                .is_some_and(|version| allowed.contains(&VersionName(version)))
        })
    }

    /// `MS-ASProtocolCommands` without the commands that are not let through. A command that is
    /// not known here is left out with them, because a request for it is refused. `None`: as it
    /// was.
    #[must_use]
    pub fn narrowed_commands(&self, offered: &str) -> Option<String> {
        self.commands.as_ref()?;
        narrowed(offered, |command| {
            Command::from_name(command).is_some_and(|command| self.allows(command))
        })
    }
}

/// The members of a comma list that are kept; `None` where that is all of them.
fn narrowed(list: &str, keep: impl Fn(&str) -> bool) -> Option<String> {
    let members = || list.split(',').map(str::trim);
    if members().all(&keep) {
        return None;
    }
    let kept: Vec<_> = members().filter(|member| keep(member)).collect();
    Some(kept.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firewall() -> Firewall {
        Firewall {
            commands: Some(vec![
                CommandName(Command::Sync),
                CommandName(Command::FolderSync),
            ]),
            versions: Some(vec![
                VersionName(ProtocolVersion::V14_1),
                VersionName(ProtocolVersion::V16_1),
            ]),
            body_max_bytes: [
                (BodyOf::Any, 1_000),
                (BodyOf::Command(Command::Sync.index()), 5_000),
            ]
            .into(),
            ..Firewall::default()
        }
    }

    #[test]
    fn an_empty_table_refuses_no_command_and_no_version() {
        let open = Firewall::default();
        for command in Command::ALL {
            assert_eq!(open.admit(command, None, Some("Inbox/1.eml")), Ok(()));
            assert_eq!(open.largest_body(command), None);
        }
        assert_eq!(open.narrowed_versions("2.5,14.1"), None);
        assert_eq!(open.narrowed_commands("Sync,Whatever"), None);
    }

    #[test]
    fn commands_and_versions_are_those_of_the_table() {
        let firewall = firewall();
        let v14_1 = Some(ProtocolVersion::V14_1);
        assert_eq!(firewall.admit(Command::Sync, v14_1, None), Ok(()));
        assert_eq!(
            firewall.admit(Command::Search, v14_1, None),
            Err(Violation::Command(Command::Search))
        );
        for version in [None, Some(ProtocolVersion::V12_1)] {
            assert_eq!(
                firewall.admit(Command::Sync, version, None),
                Err(Violation::Version(version))
            );
        }
    }

    #[test]
    fn what_the_server_offers_is_narrowed() {
        let firewall = firewall();
        assert_eq!(
            firewall.narrowed_versions("2.5,12.1, 14.0 ,14.1,16.1"),
            Some("14.1,16.1".to_owned())
        );
        assert_eq!(firewall.narrowed_versions("14.1,16.1"), None);
        assert_eq!(
            firewall.narrowed_commands("Sync,SendMail,FolderSync,Novel"),
            Some("Sync,FolderSync".to_owned())
        );
        assert_eq!(firewall.narrowed_versions("2.5"), Some(String::new()));
    }

    #[test]
    fn the_largest_body_is_the_commands_own_or_the_default() {
        assert_eq!(firewall().largest_body(Command::Sync), Some(5_000));
        assert_eq!(firewall().largest_body(Command::Ping), Some(1_000));
    }

    #[test]
    fn an_attachment_on_somebody_elses_share_is_refused() {
        let away = |name| {
            Firewall::default().admit(
                Command::GetAttachment,
                Some(ProtocolVersion::V12_1),
                Some(name),
            )
        };
        assert_eq!(away(r"\\dc1\c$\secrets.txt"), Err(Violation::Link));
        assert_eq!(away("file://dc1/share"), Err(Violation::Link));
        assert_eq!(away("Inbox/Betreff.EML/1_multipart"), Ok(()));
    }
}

//! Why Kerberos gives no ticket: one table from the library's codes to what the log says, what an
//! administrator does about it, and whether it is the user's account or the gateway's set-up.

use std::fmt;

/// Which exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The gateway's own ticket, out of its keytab.
    Own,
    /// A ticket to ourselves in the user's name (S4U2Self).
    Impersonate,
    /// A ticket to the mail server in the user's name (S4U2Proxy).
    Delegate,
    /// A client's ticket to us.
    Accept,
    /// The mail server's answer to ours.
    Answer,
}

/// Why there is no ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A word for logs and metrics.
    pub reason: &'static str,
    /// What is wrong, in words.
    pub text: String,
    /// What mends it.
    pub mend: &'static str,
    /// The account is at fault: the phone is told 403, and not to come again in a minute.
    pub of_user: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.text, self.mend)
    }
}

struct Row {
    stage: Option<Stage>,
    /// The protocol's code (RFC 4120 7.5.9), or the library's own.
    code: i32,
    reason: &'static str,
    what: &'static str,
    mend: &'static str,
    of_user: bool,
}

/// krb5's error table begins here; protocol codes are added to it.
const BASE: i32 = -1_765_328_384;
/// KDC_ERR_BADOPTION: told apart by trying somebody else.
#[cfg(any(test, feature = "kerberos"))]
pub(super) const BAD_OPTION: i32 = BASE + 13;
/// No account has the user's name.
pub(super) const USER_UNKNOWN: &str = "kerberos_user_unknown";
/// KRB_AP_ERR_TKT_EXPIRED: our own ticket is at its end; a new one mends it.
#[cfg(feature = "kerberos")]
pub(super) const EXPIRED: i32 = BASE + 32;

const fn row(
    stage: Option<Stage>,
    code: i32,
    reason: &'static str,
    what: &'static str,
    mend: &'static str,
    of_user: bool,
) -> Row {
    Row {
        stage,
        code: BASE + code,
        reason,
        what,
        mend,
        of_user,
    }
}

const SELF: Option<Stage> = Some(Stage::Impersonate);
const PROXY: Option<Stage> = Some(Stage::Delegate);
const OWN: Option<Stage> = Some(Stage::Own);
const ACCEPT: Option<Stage> = Some(Stage::Accept);
const CLOCK: &str =
    "set the clocks of gateway and domain controllers by NTP; 5 minutes are allowed";
const REKEY: &str =
    "make a new keytab for the gateway's account, with its current password and kvno";

/// First match counts.
const TABLE: &[Row] = &[
    row(
        SELF,
        1,
        "kerberos_account_expired",
        "the account has expired",
        "extend the account in the directory",
        true,
    ),
    row(
        SELF,
        6,
        USER_UNKNOWN,
        "no account has this name",
        "map the certificate's name to the account's: kerberos.user.name, directory.url or identity.certificate.user.pattern",
        true,
    ),
    row(
        SELF,
        7,
        "kerberos_user_realm",
        "the name belongs to a realm that is not trusted",
        "add the realm to kerberos.principals, or map the name",
        true,
    ),
    row(
        SELF,
        12,
        "kerberos_account_disabled",
        "the account is disabled, or may not log in",
        "enable the account in the directory",
        true,
    ),
    row(
        None,
        18,
        "kerberos_account_locked",
        "the account is locked or disabled",
        "unlock the account in the directory",
        true,
    ),
    row(
        None,
        23,
        "kerberos_password_expired",
        "the account's password has expired, or must be changed",
        "let the user change the password",
        true,
    ),
    row(
        PROXY,
        7,
        "kerberos_spn_missing",
        "no account has the mail server's service name",
        "register it: setspn -S HTTP/mail.example.com account; or set email.server.spn",
        false,
    ),
    row(
        PROXY,
        13,
        "kerberos_delegation_refused",
        "the gateway's account may not delegate to this service, or the user's account is sensitive and cannot be delegated",
        "allow the delegation with any authentication protocol (msDS-AllowedToDelegateTo; resource-based delegation only where the domain controllers go by it), or clear `sensitive` and Protected Users; `seg check --client-cert` tells which it is",
        false,
    ),
    row(
        SELF,
        13,
        "kerberos_delegation_refused",
        "the gateway's account may not act for others",
        "trust it for delegation with any authentication protocol",
        false,
    ),
    row(
        OWN,
        6,
        "kerberos_own_account",
        "the gateway's own account is unknown",
        "check kerberos.principals",
        false,
    ),
    row(
        OWN,
        24,
        "kerberos_keytab_stale",
        "the keytab does not hold the account's current key",
        REKEY,
        false,
    ),
    row(
        OWN,
        18,
        "kerberos_own_account",
        "the gateway's own account is locked or disabled",
        "enable it in the directory",
        false,
    ),
    row(
        None,
        24,
        "kerberos_keytab_stale",
        "the keytab does not hold the account's current key",
        REKEY,
        false,
    ),
    row(
        None,
        37,
        "kerberos_clock_skew",
        "the clocks differ by more than Kerberos allows",
        CLOCK,
        false,
    ),
    row(
        None,
        14,
        "kerberos_encryption",
        "the domain controller and the keytab share no encryption type",
        "export the keytab with AES keys, and set msDS-SupportedEncryptionTypes to 24",
        false,
    ),
    row(
        None,
        32,
        "kerberos_ticket_expired",
        "the ticket is at its end",
        "check the clocks of gateway and domain controllers",
        false,
    ),
    row(
        ACCEPT,
        31,
        "kerberos_ticket_key",
        "the client's ticket is not encrypted with a key of our keytab",
        REKEY,
        false,
    ),
    row(
        ACCEPT,
        35,
        "kerberos_ticket_key",
        "the client's ticket is for another service",
        "give the gateway's account the service name that clients use, and its key in the keytab",
        false,
    ),
    row(
        ACCEPT,
        34,
        "kerberos_ticket_replayed",
        "the client's ticket was used before",
        "clients must send a new authenticator with every request",
        true,
    ),
    row(
        ACCEPT,
        41,
        "kerberos_ticket_modified",
        "the client's ticket can't be decrypted",
        REKEY,
        false,
    ),
    // KRB5_KDC_UNREACH, KRB5_REALM_UNKNOWN, KRB5_REALM_CANT_RESOLVE.
    row(
        None,
        156,
        "kerberos_kdc_unreachable",
        "no domain controller answers",
        "check kerberos.kdc and port 88",
        false,
    ),
    row(
        None,
        154,
        "kerberos_realm_unknown",
        "the realm has no domain controllers",
        "add them to kerberos.kdc",
        false,
    ),
    row(
        None,
        164,
        "kerberos_realm_unknown",
        "the domain controllers of the realm can't be found",
        "add them to kerberos.kdc",
        false,
    ),
    // KRB5_KT_NOTFOUND and KRB5_FCC_NOFILE's neighbours; ENOENT comes as its own number below.
    row(
        None,
        181,
        "kerberos_keytab",
        "the keytab holds no key for the gateway's account",
        "check kerberos.principals and kerberos.keytab.path",
        false,
    ),
];

impl Refusal {
    /// What a code of the library means at a stage; `said` is the library's own text.
    pub fn of(stage: Stage, minor: u32, said: &str) -> Self {
        let code = minor.cast_signed();
        let found = TABLE
            .iter()
            .find(|row| row.code == code && row.stage.is_none_or(|of| of == stage));
        match found {
            Some(row) => Self {
                reason: row.reason,
                text: format!("{} ({said})", row.what),
                mend: row.mend,
                // At the gateway's own ticket nobody else can be at fault.
                of_user: row.of_user && stage != Stage::Own,
            },
            None => Self {
                reason: match stage {
                    Stage::Own => "kerberos_keytab",
                    Stage::Accept => "kerberos_ticket_refused",
                    _ => "kerberos_failed",
                },
                text: format!("{} ({said})", stage.in_words()),
                mend: "look into the domain controller's log",
                of_user: false,
            },
        }
    }

    /// Somebody else got a ticket to the same service: it is this account.
    pub(crate) fn sensitive(said: &str) -> Self {
        Self {
            reason: "kerberos_account_sensitive",
            text: format!("the account is sensitive and cannot be delegated ({said})"),
            mend: "clear `account is sensitive and cannot be delegated`, and take it out of Protected Users",
            of_user: true,
        }
    }

    /// A ticket is refused while the clocks differ.
    #[cfg(feature = "kerberos")]
    pub(super) fn skewed(ahead: i64) -> Self {
        Self {
            reason: "kerberos_clock_skew",
            text: format!("the domain controller's clock is {ahead} seconds ahead of ours"),
            mend: CLOCK,
            of_user: false,
        }
    }

    /// No account has the name, and its domain is none of our realms.
    #[cfg(feature = "kerberos")]
    pub(super) fn elsewhere(user: &str, said: &str) -> Self {
        Self {
            reason: "kerberos_user_realm",
            text: format!(
                "{user} is no account here, and its domain is none of our realms ({said})"
            ),
            mend: "add the realm to kerberos.principals, the suffix to the forest, or map the name: identity.domain.map",
            of_user: true,
        }
    }

    /// The name is of a domain that nothing maps to a realm.
    #[cfg(feature = "kerberos")]
    pub(super) fn foreign(user: &str) -> Self {
        Self {
            reason: "kerberos_user_realm",
            text: format!("{user} is of a domain that belongs to no realm"),
            mend: "add the domain to identity.domain.map",
            of_user: true,
        }
    }

    /// Somebody else doesn't get one any more either.
    #[cfg(feature = "kerberos")]
    pub(super) fn undelegated(spn: &str, said: &str) -> Self {
        Self {
            reason: "kerberos_delegation_missing",
            text: format!("the gateway's account may not delegate to {spn} ({said})"),
            mend: "add it to the services to which the account may delegate (msDS-AllowedToDelegateTo), with any authentication protocol; `seg check --client-cert` tells which of the two is missing",
            of_user: false,
        }
    }

    #[cfg(feature = "kerberos")]
    pub(super) fn late(seconds: u64) -> Self {
        Self {
            reason: "kerberos_late",
            text: format!("no domain controller has answered within {seconds} seconds"),
            mend: "check kerberos.kdc; a second domain controller takes over where there is one",
            of_user: false,
        }
    }

    #[cfg(feature = "kerberos")]
    pub(super) fn busy() -> Self {
        Self {
            reason: "kerberos_busy",
            text: "too many tickets are being fetched at once".to_owned(),
            mend: "look for a slow domain controller",
            of_user: false,
        }
    }
}

impl Stage {
    fn in_words(self) -> &'static str {
        match self {
            Self::Own => "the gateway gets no ticket for itself",
            Self::Impersonate => "no ticket is given in the user's name",
            Self::Delegate => "no ticket to the mail server is given in the user's name",
            Self::Accept => "the client's ticket is not accepted",
            Self::Answer => "the mail server did not prove its identity",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_by_their_stage() {
        let reason = |stage, code: i32| Refusal::of(stage, code.cast_unsigned(), "said").reason;
        assert_eq!(
            reason(Stage::Impersonate, -1_765_328_378),
            "kerberos_user_unknown"
        );
        assert_eq!(
            reason(Stage::Impersonate, -1_765_328_372),
            "kerberos_account_disabled"
        );
        assert_eq!(
            reason(Stage::Delegate, BAD_OPTION),
            "kerberos_delegation_refused"
        );
        assert_eq!(
            reason(Stage::Delegate, -1_765_328_377),
            "kerberos_spn_missing"
        );
        assert_eq!(reason(Stage::Own, -1_765_328_360), "kerberos_keytab_stale");
        assert_eq!(
            reason(Stage::Own, -1_765_328_228),
            "kerberos_kdc_unreachable"
        );
        assert_eq!(reason(Stage::Own, 2), "kerberos_keytab");
    }
}

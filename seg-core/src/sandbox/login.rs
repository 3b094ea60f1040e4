//! Who has sent a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::options::{SandboxOptions, User};
use super::wire::Head;

/// The domains whose `DOMAIN\name` is a user's `name@sandbox.example`.
const DOMAINS: [&str; 2] = ["SANDBOX", "CORP"];

/// The address of the user whose credentials are good; none without such.
pub(super) fn user<'o>(options: &'o SandboxOptions, head: &Head) -> Option<&'o str> {
    let (scheme, credentials) = head.text("Authorization").split_once(' ')?;
    if scheme.eq_ignore_ascii_case("Basic") {
        let decoded = STANDARD.decode(credentials.trim()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (login, password) = decoded.split_once(':')?;
        let user = options.users.iter().find(|user| is_called(user, login))?;
        (user.password == password).then_some(user.address.as_str())
    } else if scheme.eq_ignore_ascii_case("Bearer") {
        let known = options
            .bearer_tokens
            .iter()
            .find(|(token, _)| token == credentials.trim());
        known.map(|(_, address)| address.as_str())
    } else {
        None
    }
}

/// The address, the name alone, and the name behind a known domain all mean the same user.
fn is_called(user: &User, login: &str) -> bool {
    let name = user.address.split('@').next().unwrap_or_default();
    match login.split_once('\\') {
        Some((domain, login)) => {
            DOMAINS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(domain))
                && login.eq_ignore_ascii_case(name)
        }
        None => login.eq_ignore_ascii_case(&user.address) || login.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_name_is_known() {
        let alice = User::named("alice");
        for login in [
            "alice",
            "Alice@Sandbox.example",
            "SANDBOX\\alice",
            "corp\\ALICE",
        ] {
            assert!(is_called(&alice, login), "{login}");
        }
        for login in ["bob", "alice@corp.example", "OTHER\\alice", ""] {
            assert!(!is_called(&alice, login), "{login}");
        }
    }
}

//! What the directory says of the gateway's own account and of a mail server's service name: by it
//! `seg check` tells apart what a domain controller refuses with one and the same code.

use ldap3::{SearchEntry, ldap_escape};

use super::Directory;
use super::client::Client;

/// TRUSTED_TO_AUTH_FOR_DELEGATION in userAccountControl (MS-ADTS 2.2.16).
const ANY_PROTOCOL: u32 = 0x100_0000;

/// An account that asks for tickets in others' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// With any authentication protocol: for people who have shown a certificate.
    pub any_protocol: bool,
    /// `msDS-AllowedToDelegateTo`.
    pub services: Vec<String>,
}

/// An account that has a service name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `sAMAccountName`.
    pub name: String,
    /// It names accounts itself that may act for others towards it.
    pub resource_based: bool,
}

impl Directory {
    /// The account with this name, or this service name.
    ///
    /// # Errors
    /// Why the directory could not be asked.
    pub async fn delegate(&self, name: &str) -> Result<Option<Delegate>, String> {
        let name = ldap_escape(name);
        let filter =
            format!("(&(objectClass=user)(|(sAMAccountName={name})(servicePrincipalName={name})))");
        let attributes = ["userAccountControl", "msDS-AllowedToDelegateTo"];
        let found = self.client.as_ourselves(&filter, &attributes).await?;
        Ok(found.first().map(|entry| {
            let flags = entry
                .attrs
                .get("userAccountControl")
                .and_then(|values| values.first()?.parse::<i64>().ok());
            Delegate {
                any_protocol: flags.is_some_and(|flags| flags as u32 & ANY_PROTOCOL != 0),
                services: entry
                    .attrs
                    .get("msDS-AllowedToDelegateTo")
                    .cloned()
                    .unwrap_or_default(),
            }
        }))
    }

    /// Every account with this service name; there should be one.
    ///
    /// # Errors
    /// Why the directory could not be asked.
    pub async fn owners(&self, service: &str) -> Result<Vec<Owner>, String> {
        const RESOURCE_BASED: &str = "msDS-AllowedToActOnBehalfOfOtherIdentity";
        let filter = format!("(servicePrincipalName={})", ldap_escape(service));
        let attributes = ["sAMAccountName", RESOURCE_BASED];
        let found = self.client.as_ourselves(&filter, &attributes).await?;
        let owner = |entry: SearchEntry| Owner {
            name: entry
                .attrs
                .get("sAMAccountName")
                .and_then(|values| values.first().cloned())
                .unwrap_or(entry.dn),
            resource_based: entry.attrs.contains_key(RESOURCE_BASED)
                || entry.bin_attrs.contains_key(RESOURCE_BASED),
        };
        Ok(found.into_iter().map(owner).collect())
    }

    /// The DNS name of its domain.
    pub fn domain(&self) -> String {
        self.client.domain()
    }
}

impl Client {
    /// One search by our own account.
    async fn as_ourselves(
        &self,
        filter: &str,
        attributes: &[&str],
    ) -> Result<Vec<SearchEntry>, String> {
        let mut ldap = self.ourselves().await?;
        let found = self.search(&mut ldap, filter, attributes.to_vec()).await;
        let _leave = ldap.unbind().await;
        found
    }
}

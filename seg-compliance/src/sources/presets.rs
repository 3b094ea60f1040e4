//! The known systems, as rows of a table: where they are asked, how their pages follow each other,
//! and which of their words is which fact.
//!
//! - **Workspace ONE UEM**: REST API v1, "Devices: Search" (`GET /api/mdm/devices/search`), and for one
//!   device "Get device by alternate ID" (`GET /api/mdm/devices?searchby=EasId&id=`), which answers with
//!   the device itself; both as the console documents them under `/api/help`.
//! - **Microsoft Intune**: Microsoft Graph v1.0, "List managedDevices"
//!   (learn.microsoft.com/graph/api/intune-devices-manageddevice-list) and the properties of
//!   `managedDevice`; paging and delta links as in "Paging Microsoft Graph data" and "Use delta query
//!   to track changes in Microsoft Graph data" (learn.microsoft.com/graph/delta-query-overview). That
//!   page does not list `managedDevice` among the resources that have a delta function, in v1.0 or
//!   beta; programs ask for `managedDevices/delta` all the same. So it is asked for where the
//!   definition says `delta = true`, and where Graph refuses it, or tells of a change without the
//!   DeviceId, the list is read instead. Nor does the page of `managedDevice` name `easDeviceId` among
//!   the properties that can be filtered by: `seg check` tells whether a tenant does.
//! - **Jamf Pro**: Jamf Pro API, "Get mobile device inventory"
//!   (`GET /api/v2/mobile-devices/detail`, developer.jamf.com) and "Client credentials".

/// A known system.
pub(super) struct Preset {
    pub(super) kind: &'static str,
    /// Where its API is, where that is the same for everybody.
    pub(super) url: Option<&'static str>,
    pub(super) path: &'static str,
    /// The path that also gives what has changed since.
    pub(super) delta_path: Option<&'static str>,
    /// A device by its DeviceId, `{device}` in it.
    pub(super) lookup: Option<&'static str>,
    pub(super) accept: &'static str,
    pub(super) items: &'static str,
    /// Where the link to the next page is.
    pub(super) next: Option<&'static str>,
    /// Where the link for the next delta is.
    pub(super) delta: Option<&'static str>,
    /// Parameters of page number and page size, the size, the first page.
    pub(super) pages: Option<(&'static str, &'static str, u32, u32)>,
    pub(super) total: Option<&'static str>,
    /// Where a token is got, below its URL or absolute; `{tenant}` in it.
    pub(super) token_path: Option<&'static str>,
    pub(super) scope: Option<&'static str>,
    pub(super) map: &'static [(&'static str, &'static [&'static str])],
}

pub(super) static PRESETS: [Preset; 3] = [
    Preset {
        kind: "workspace-one",
        url: None,
        path: "/api/mdm/devices/search",
        delta_path: None,
        lookup: Some("/api/mdm/devices?searchby=EasId&id={device}"),
        accept: "application/json;version=1",
        items: "$.Devices",
        next: None,
        delta: None,
        pages: Some(("page", "pagesize", 500, 0)),
        total: Some("$.Total"),
        token_path: None,
        scope: None,
        map: &[
            ("device_id", &["$.EasIds.EasId[*]", "$.EasId"]),
            ("user", &["$.UserName", "$.UserEmailAddress"]),
            ("managed", &["$.EnrollmentStatus"]),
            ("compliant", &["$.ComplianceStatus"]),
            ("compromised", &["$.CompromisedStatus"]),
            ("encrypted", &["$.DataEncryptionYN", "$.IsEncrypted"]),
            ("passcode", &["$.IsPasscodeCompliant"]),
            ("platform", &["$.Platform", "$.PlatformId.Name"]),
            ("model", &["$.Model"]),
            ("os_version", &["$.OperatingSystem"]),
            ("ownership", &["$.Ownership"]),
            ("last_seen", &["$.LastSeen"]),
        ],
    },
    Preset {
        kind: "intune",
        url: Some("https://graph.microsoft.com"),
        path: "/v1.0/deviceManagement/managedDevices",
        delta_path: Some("/v1.0/deviceManagement/managedDevices/delta"),
        lookup: Some("/v1.0/deviceManagement/managedDevices?$filter=easDeviceId%20eq%20'{device}'"),
        accept: "application/json",
        items: "$.value",
        next: Some("$['@odata.nextLink']"),
        delta: Some("$['@odata.deltaLink']"),
        pages: None,
        total: None,
        token_path: Some("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"),
        scope: Some("https://graph.microsoft.com/.default"),
        map: &[
            ("device_id", &["$.easDeviceId"]),
            ("user", &["$.userPrincipalName", "$.emailAddress"]),
            ("managed", &["$.managementState"]),
            ("compliant", &["$.complianceState"]),
            ("compromised", &["$.jailBroken"]),
            ("encrypted", &["$.isEncrypted"]),
            ("platform", &["$.operatingSystem"]),
            ("model", &["$.model"]),
            ("os_version", &["$.osVersion"]),
            ("ownership", &["$.managedDeviceOwnerType"]),
            ("last_seen", &["$.lastSyncDateTime"]),
        ],
    },
    Preset {
        kind: "jamf",
        url: None,
        path: "/api/v2/mobile-devices/detail?section=GENERAL&section=HARDWARE&section=SECURITY&section=USER_AND_LOCATION&section=APPLICATIONS&section=GROUPS",
        delta_path: None,
        lookup: None,
        accept: "application/json",
        items: "$.results",
        next: None,
        delta: None,
        pages: Some(("page", "page-size", 200, 0)),
        total: Some("$.totalCount"),
        token_path: Some("/api/oauth/token"),
        scope: None,
        map: &[
            ("device_id", &["$.general.exchangeDeviceId"]),
            (
                "user",
                &[
                    "$.userAndLocation.username",
                    "$.userAndLocation.emailAddress",
                ],
            ),
            ("managed", &["$.general.managed"]),
            (
                "compromised",
                &[
                    "$.security.jailBreakDetected",
                    "$.security.jailbreakDetected",
                ],
            ),
            ("encrypted", &["$.security.dataProtected"]),
            ("passcode", &["$.security.passcodeCompliant"]),
            ("platform", &["$.deviceType"]),
            ("model", &["$.hardware.modelIdentifier", "$.hardware.model"]),
            ("os_version", &["$.general.osVersion"]),
            ("ownership", &["$.general.deviceOwnershipType"]),
            ("last_seen", &["$.general.lastInventoryUpdateDate"]),
            ("apps", &["$.applications[*].identifier"]),
            ("groups", &["$.groups[*].groupName"]),
        ],
    },
];

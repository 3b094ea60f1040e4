use super::*;
use crate::{Limits, classify};

fn policy(text: &str) -> Policy {
    Policy::compile(toml::from_str(text).expect("TOML")).expect("a policy")
}

fn wrong(text: &str) -> String {
    let table = toml::from_str(text).expect("TOML");
    Policy::compile(table).expect_err(text).to_string()
}

fn envelope(header: &str, body: &str) -> Envelope {
    let text = format!(
        "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/' \
         xmlns:t='http://schemas.microsoft.com/exchange/services/2006/types'>\
         <s:Header>{header}</s:Header><s:Body \
         xmlns='http://schemas.microsoft.com/exchange/services/2006/messages'>{body}</s:Body>\
         </s:Envelope>"
    );
    classify(text.as_bytes(), &Limits::default()).expect("a request")
}

fn judged(policy: &ClassPolicy, header: &str, body: &str) -> Result<(), Denial> {
    let own = |mailbox: &str| mailbox.eq_ignore_ascii_case("alice@corp.example");
    policy.judge(&envelope(header, body), "alice@corp.example", own)
}

const SENDER: Sender<'_> = Sender {
    address: IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3)),
    agent: "VMware-ENS/2.0",
    certificate: None,
};

#[test]
fn what_a_phone_has_no_business_with_is_denied_without_any_configuration() {
    let policy = Policy::compile(toml::Table::new()).expect("a policy");
    assert_eq!(policy, Policy::default());
    assert_eq!(policy.class(&SENDER), ClientClass::Native);
    for class in ClientClass::ALL {
        for operation in Operation::all() {
            let risky = matches!(operation.group(), Group::Persistence | Group::BulkAdmin);
            assert_eq!(policy.of(class).allows(operation), !risky, "{operation}");
        }
    }
    assert!(!policy.learns() && !policy.reads_certificates() && !policy.trusts(SENDER.address));
    let native = policy.of(ClientClass::Native);
    let impersonation = "<t:ExchangeImpersonation><t:ConnectingSID><t:PrincipalName>bob@corp.example\
        </t:PrincipalName></t:ConnectingSID></t:ExchangeImpersonation>";
    let folder = |mailbox: &str| {
        format!(
            "<GetFolder><FolderIds><t:DistinguishedFolderId Id='inbox'><t:Mailbox>\
             <t:EmailAddress>{mailbox}</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>\
             </FolderIds></GetFolder>"
        )
    };
    let push = "<Subscribe><PushSubscriptionRequest><t:URL>https://ens.example/x</t:URL>\
        </PushSubscriptionRequest></Subscribe>";
    for (header, body, expected) in [
        ("", "<GetItem/>", Ok(())),
        ("", "<ExportItems/>", Err(Denial::Operation)),
        (
            "<t:SerializedSecurityContext/>",
            "<GetItem/>",
            Err(Denial::SerializedSecurityContext),
        ),
        (
            "<t:ManagementRole/>",
            "<GetItem/>",
            Err(Denial::ManagementRole),
        ),
        (impersonation, "<GetItem/>", Err(Denial::Impersonation)),
        ("", folder("Alice@corp.example").as_str(), Ok(())),
        (
            "",
            folder("bob@corp.example").as_str(),
            Err(Denial::ForeignMailbox),
        ),
        ("", push, Err(Denial::PushHost)),
    ] {
        assert_eq!(judged(native, header, body), expected, "{header}{body}");
    }
    assert_eq!(
        policy.of(ClientClass::Ens).refusal,
        Some(RefusalForm::Forbidden)
    );
    assert_eq!(native.refusal, None);
}

#[test]
fn grants_name_who_may_reach_whom() {
    let policy = policy(
        "[service]\n\
         impersonation = [{ by = 'alice@corp.example', of = ['*@corp.example'] }]\n\
         management_role = ['alice@*']\n\
         foreign_mailboxes = [{ by = 'alice@corp.example', of = ['room-*'] }]\n\
         push_hosts = ['*.ens.example']\n",
    );
    let service = policy.of(ClientClass::Service);
    let as_whom = |element: &str, who: &str| {
        format!(
            "<t:ExchangeImpersonation><t:ConnectingSID><t:{element}>{who}</t:{element}>\
             </t:ConnectingSID></t:ExchangeImpersonation>"
        )
    };
    let bob = as_whom("PrimarySmtpAddress", "bob@corp.example");
    assert_eq!(judged(service, &bob, "<GetItem/>"), Ok(()));
    let eve = as_whom("SmtpAddress", "eve@other.example");
    assert_eq!(
        judged(service, &eve, "<GetItem/>"),
        Err(Denial::Impersonation)
    );
    let sid = as_whom("SID", "S-1-5-21-corp.example");
    assert_eq!(
        judged(service, &sid, "<GetItem/>"),
        Err(Denial::Impersonation)
    );
    assert_eq!(judged(service, "<t:ManagementRole/>", "<GetItem/>"), Ok(()));
    let nobody = |_: &str| false;
    assert!(service.reaches(&["Room-1@x".to_owned()], "alice@corp.example", nobody));
    assert!(!service.reaches(&["Room-1@x".to_owned()], "bob@corp.example", nobody));
    assert!(service.may_push_to("a.ens.example") && !service.may_push_to("ens.example"));
    // What was granted to one class is not granted to another.
    let native = policy.of(ClientClass::Native);
    assert_eq!(
        judged(native, &bob, "<GetItem/>"),
        Err(Denial::Impersonation)
    );
}

#[test]
fn classes_are_told_by_the_first_rule_of_which_all_holds() {
    let policy = policy(
        "default_class = 'desktop'\n\
         trusted_networks = ['10.1.0.0/16']\n\
         [[client]]\nclass = 'service'\ncertificates = ['CN=svc*']\n\
         [[client]]\nclass = 'ens'\nnetworks = ['10.1.2.3', 'fd00::/8']\nagents = ['*ens*']\n",
    );
    assert_eq!(policy.class(&SENDER), ClientClass::Ens);
    let elsewhere = Sender {
        address: IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 4)),
        ..SENDER
    };
    assert_eq!(policy.class(&elsewhere), ClientClass::Desktop);
    let certified = Sender {
        certificate: Some("CN=svc-1, O=Corp"),
        ..SENDER
    };
    assert_eq!(policy.class(&certified), ClientClass::Service);
    assert!(policy.trusts(SENDER.address) && policy.reads_certificates());
}

#[test]
fn operations_and_answers_of_a_class() {
    let policy = policy(
        "[ens]\ngroups = ['notify', 'content']\nallow = ['GetFolder']\ndeny = ['FindConversation']\n\
         refusal = 'response'\nfields = ['subject', 'sender', 'time', 'read']\n\
         meter = { minutes = 60, items = 100 }\ndevice = ['header:X-Device-Id', 'learned']\n\
         [native]\nattachments = 'block'\n",
    );
    let ens = policy.of(ClientClass::Ens);
    let named = |name| Operation::from_name(name).expect("known");
    for (name, expected) in [
        ("Subscribe", Ok(())),
        ("GetFolder", Ok(())),
        ("GetItem", Ok(())),
        ("FindFolder", Err(Denial::Operation)),
        ("FindConversation", Err(Denial::Operation)),
        ("GetAttachment", Err(Denial::Fields)),
        ("ExecuteSearch", Err(Denial::Fields)),
    ] {
        assert_eq!(ens.judge_operation(named(name)), expected, "{name}");
    }
    assert_eq!(ens.refusal, Some(RefusalForm::Response));
    let meter = ens.meter.expect("a meter");
    assert_eq!(
        (meter.minutes, meter.items, meter.bytes),
        (60, 100, u64::MAX)
    );
    assert!(policy.learns());
    let native = policy.of(ClientClass::Native);
    assert_eq!(
        native.judge_operation(named("GetAttachment")),
        Err(Denial::Attachment)
    );
    assert_eq!(native.judge_operation(named("GetItem")), Ok(()));
    assert!(native.redaction.attachments && !ens.redaction.is_nothing());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, part) in [
        ("x = 1", "unknown field `x`"),
        (
            "default_class = 'phone'",
            "default_class: \"phone\" is none of",
        ),
        ("[[client]]\nclass = 'ens'", "client 1: name networks"),
        (
            "[[client]]\nclass = 'ens'\nnetworks = ['x']",
            "client 1: \"x\" is no network",
        ),
        (
            "[native]\ngroups = ['all']",
            "native: groups: \"all\" is none of notify",
        ),
        (
            "[native]\nallow = ['GetItems']",
            "native: \"GetItems\" is no operation",
        ),
        ("[ens]\nrefusal = '401'", "ens: refusal"),
        (
            "[ens]\nfields = ['body']",
            "ens: fields: \"body\" is none of subject",
        ),
        ("[ens]\nattachments = 'maybe'", "ens: attachments"),
        (
            "[ens]\nmeter = { minutes = 0, items = 1 }",
            "ens: meter: minutes",
        ),
        ("[ens]\nmeter = { minutes = 1 }", "ens: meter: give bytes"),
        (
            "[ens]\ndevice = ['user']",
            "ens: device: \"user\" is none of",
        ),
        (
            "[ens]\nimpersonation = [{ by = '' }]",
            "ens: a pattern must have",
        ),
    ] {
        let said = wrong(text);
        assert!(
            said.starts_with("[ews]: ") && said.contains(part),
            "{text}: {said}"
        );
    }
}

//! A notification service's own gate: another program that does with the libraries what the gateway
//! does for push subscriptions. It embeds `seg-compliance` (who may have mail) and `seg-ews` (what is
//! asked, and what is answered), and nothing of the gateway.
//!
//!     cargo run -p seg-core --example ens_proxy
//!
//! The example plays one phone from its registration to its block. In a real service `subscribe`
//! stands where a request to Exchange is made, `notified` where Exchange calls, and the table of
//! tickets in a database or, as the gateway has it, sealed into the address itself.

use std::collections::HashMap;

use seg_compliance::{Ask, DeviceKey, Engine, Protocol, Settings, UserKey, Verdict, Via, api};
use seg_ews::callback::{self, SubscriptionStatus};
use seg_ews::policy::{ClientClass, Policy, Sender};
use seg_ews::{Limits, classify, document};

/// What a ticket in our address stands for.
struct Subscriber {
    url: String,
    user: UserKey,
    device: DeviceKey,
}

/// The gate: a compliance engine, the rules of `[ews]`, and who has subscribed.
struct Gate {
    engine: Engine,
    policy: Policy,
    tickets: HashMap<u64, Subscriber>,
}

/// What becomes of a request or a call.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// To be sent on, with this body.
    Forward(Vec<u8>),
    /// To be sent to this subscriber.
    Relay(String),
    /// To be answered with this.
    Answer(String),
    /// To be refused, and why.
    Refuse(String),
}

impl Gate {
    /// A subscription on its way to Exchange.
    fn subscribe(
        &mut self,
        user: &UserKey,
        device: &DeviceKey,
        sender: &Sender<'_>,
        soap: &[u8],
    ) -> Outcome {
        let facts = match classify(soap, &Limits::default()) {
            Ok(facts) => facts,
            Err(reject) => return Outcome::Refuse(reject.to_string()),
        };
        let ask = Ask {
            device: Some(device),
            user: Some(user),
            agent: sender.agent,
            device_type: "",
            protocol: Protocol::Ews,
            command: facts.operation.name(),
            via: Via::default(),
        };
        let decision = self.engine.decide(&ask);
        if decision.refuses() {
            return Outcome::Refuse(format!("{:?}", decision.reason));
        }
        let class = self.policy.of(self.policy.class(sender));
        let own = |mailbox: &str| mailbox.eq_ignore_ascii_case(user.as_str());
        if let Err(denial) = class.judge(&facts, user.as_str(), own) {
            return Outcome::Refuse(denial.reason().to_owned());
        }
        let Some(url) = &facts.push_url else {
            return Outcome::Forward(soap.to_vec());
        };
        let ticket = self.tickets.len() as u64 + 1;
        let ours = format!("https://gate.example/called?ticket={ticket}");
        let Some(changed) = callback::with_push_url(soap, &ours) else {
            return Outcome::Refuse("the address can't be put in".to_owned());
        };
        let subscriber = Subscriber {
            url: url.expose().to_owned(),
            user: user.clone(),
            device: device.clone(),
        };
        self.tickets.insert(ticket, subscriber);
        Outcome::Forward(changed)
    }

    /// A call of Exchange.
    fn notified(&self, ticket: u64, soap: &[u8]) -> Outcome {
        let is_call = document::classify(soap, &Limits::default())
            .is_ok_and(|document| document.kind == document::Kind::CallbackRequest);
        let Some(subscriber) = self.tickets.get(&ticket).filter(|_| is_call) else {
            return Outcome::Refuse("no notification of ours".to_owned());
        };
        let ask = Ask {
            device: Some(&subscriber.device),
            user: Some(&subscriber.user),
            agent: "",
            device_type: "",
            protocol: Protocol::Ews,
            command: "SendNotification",
            via: Via::default(),
        };
        if self.engine.decide(&ask).refuses() {
            // Exchange drops the subscription by itself; nobody needs the phone for it.
            return Outcome::Answer(callback::result(SubscriptionStatus::Unsubscribe));
        }
        Outcome::Relay(subscriber.url.clone())
    }
}

const ENVELOPE: &str = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><s:Body>"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::in_memory(Settings {
        unknown_device: Verdict::Allow,
        ..Settings::default()
    });
    let policy = Policy::compile(
        "[ens]\npush_hosts = ['ens.example']\n\
        [[client]]\nclass = 'ens'\nagents = ['ENS/*']\n"
            .parse()?,
    )?;
    let mut gate = Gate {
        engine,
        policy,
        tickets: HashMap::new(),
    };
    let sender = Sender {
        address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        agent: "ENS/2",
        certificate: None,
    };
    assert_eq!(gate.policy.class(&sender), ClientClass::Ens);
    let (user, phone) = (
        UserKey::new("alice@corp.example")?,
        DeviceKey::new("PHONE1")?,
    );

    let subscribe = format!(
        "{ENVELOPE}<m:Subscribe><m:PushSubscriptionRequest><t:StatusFrequency>15</t:StatusFrequency>\
         <t:URL>https://ens.example/notify?creds=SECRET</t:URL></m:PushSubscriptionRequest>\
         </m:Subscribe></s:Body></s:Envelope>"
    );
    let Outcome::Forward(sent) = gate.subscribe(&user, &phone, &sender, subscribe.as_bytes())
    else {
        return Err("the subscription was refused".into());
    };
    println!("to Exchange: {}", String::from_utf8_lossy(&sent));

    let call = format!("{ENVELOPE}<m:SendNotification/></s:Body></s:Envelope>");
    let relayed = gate.notified(1, call.as_bytes());
    assert_eq!(
        relayed,
        Outcome::Relay("https://ens.example/notify?creds=SECRET".to_owned())
    );
    println!("called while compliant: passed on");

    let block = api::Override {
        verdict: Verdict::Block,
        reason: Some("lost".to_owned()),
        expires: None,
    };
    gate.engine.override_device(&phone, block).await?;
    let Outcome::Answer(answer) = gate.notified(1, call.as_bytes()) else {
        return Err("a blocked phone was notified".into());
    };
    println!("called after the block: {answer}");
    let again = gate.subscribe(&user, &phone, &sender, subscribe.as_bytes());
    println!("subscribing again: {again:?}");
    Ok(())
}

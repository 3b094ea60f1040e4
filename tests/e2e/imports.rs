//! Imports: a fleet in every form in which one comes, and what becomes of one that breaks off.

use std::fs;

use seg_tests::{Gateway, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::sandbox::{self, folder_sync, is_served};
use crate::sources::called;

/// One device that may have mail and one that may not, in each form.
const FORMS: [(&str, &str, &str); 4] = [
    (
        "ndjson",
        "fleet.ndjson",
        "{\"device_id\":\"GOOD\",\"user\":\"alice@sandbox.example\",\"compliant\":true}\n\
         {\"device_id\":\"BAD\",\"user\":\"alice@sandbox.example\",\"compliant\":false}\n",
    ),
    (
        "csv",
        "fleet.csv",
        "device_id,user,compliant\nGOOD,alice@sandbox.example,true\nBAD,alice@sandbox.example,no\n",
    ),
    (
        "exchange",
        "exchange.csv",
        "#TYPE Deserialized.Microsoft.Exchange.Data.Directory.SystemConfiguration.MobileDevice\r\n\
         \"FriendlyName\",\"DeviceId\",\"DeviceOS\",\"DeviceAccessState\",\"DeviceAccessStateReason\",\
         \"IsManaged\",\"IsCompliant\",\"User\"\r\n\
         \"\",\"GOOD\",\"iOS 17.1 21B74\",\"Allowed\",\"Global\",\"False\",\"False\",\"alice@sandbox.example\"\r\n\
         \"\",\"BAD\",\"Android 14\",\"Blocked\",\"Individual\",\"False\",\"False\",\"alice@sandbox.example\"\r\n\
         \"\",\"\",\"\",\"DeviceDiscovery\",\"Global\",\"False\",\"False\",\"\"\r\n",
    ),
    (
        "seg-v2",
        "list-view.csv",
        "Last Request,User,Email Address,Identifier,Mail Client,Status,Reason,Platform,Model,OS\n\
         11/22/2026 9:00 AM,alice,alice@sandbox.example,GOOD,Apple-iPhone,Allowed,,Apple,iPhone,17.1\n\
         11/22/2026 9:00 AM,alice,alice@sandbox.example,BAD,Android,Blocked,Compromised,Android,Pixel,14\n",
    ),
];

/// Whether the one device has mail and the other has not.
async fn is_in_force(gateway: &Gateway) -> (bool, bool) {
    let good = is_served(&gateway.ask(&folder_sync("GOOD")).await);
    let bad = is_served(&gateway.ask(&folder_sync("BAD")).await);
    (good, !bad)
}

#[tokio::test]
async fn a_fleet_comes_in_every_form() {
    let sandbox = sandbox::start();
    for (form, name, text) in FORMS {
        let builder = Gateway::before(&sandbox).set("compliance.unknown.device", "block");
        let path = builder.file(name, text).display().to_string();
        builder.file(
            "sources.toml",
            format!("[[source]]\nname=\"file\"\ntype=\"{form}\"\npath=\"{name}\"\n"),
        );
        let gateway = builder.start().await;
        assert_eq!(is_in_force(&gateway).await, (false, true), "{form}");
        let words = ["import", &path, "--format", form, "--source", "hand"];
        let dry = [&words[..], &["--dry-run"]].concat();
        let (code, said) = called(&gateway, &dry).await;
        assert!(
            code == 0 && said.contains("2 would be applied"),
            "{form}: {said}"
        );
        assert_eq!(is_in_force(&gateway).await, (false, true), "{form}");

        let (code, said) = called(&gateway, &words).await;
        assert!(
            code == 0 && said.contains("2 read: 2 applied"),
            "{form}: {said}"
        );
        assert_eq!(is_in_force(&gateway).await, (true, true), "{form}");
        let left_out = said.contains("1 rows without a DeviceId");
        assert_eq!(left_out, form == "exchange", "{said}");
        // Again is the same.
        let (code, said) = called(&gateway, &words).await;
        assert!(
            code == 0 && said.contains("0 applied, 2 unchanged"),
            "{form}: {said}"
        );

        // As a source it is everything there is, and takes the records over.
        let (code, said) = called(&gateway, &["pull", "--source", "file"]).await;
        assert!(
            code == 0 && said.contains("2 read: 2 applied"),
            "{form}: {said}"
        );
        let shown = gateway.admin.read("/v1/devices/BAD").await;
        assert_eq!(shown["source"], "file", "{form}");
        assert_eq!(is_in_force(&gateway).await, (true, true), "{form}");

        // Who is well again has mail again.
        let well = text
            .replace("\"compliant\":false", "\"compliant\":true")
            .replace(",no\n", ",yes\n")
            .replace("Blocked", "Allowed");
        fs::write(&path, well).expect("a file");
        let (code, said) = called(&gateway, &["pull", "--source", "file"]).await;
        assert!(
            code == 0 && said.contains("2 read: 1 applied"),
            "{form}: {said}"
        );
        assert_eq!(is_in_force(&gateway).await, (true, false), "{form}");
        fs::write(&path, text).expect("a file");
        let (code, said) = called(&gateway, &["pull", "--source", "file"]).await;
        assert!(
            code == 0 && said.contains("2 read: 1 applied"),
            "{form}: {said}"
        );
        assert_eq!(is_in_force(&gateway).await, (true, true), "{form}");

        // Half of the file: whatever the form, nothing is removed by it, and nothing half-read
        // is believed.
        let half = text.get(..text.rfind("BAD").expect("the second") + 3);
        fs::write(&path, half.expect("text")).expect("a file");
        let (code, said) = called(&gateway, &["pull", "--source", "file"]).await;
        assert!(code > 0, "{form}: {said}");
        assert_eq!(is_in_force(&gateway).await, (true, true), "{form}");
        // Nothing of it, and no file.
        fs::write(&path, "").expect("a file");
        let (code, said) = called(&gateway, &["pull", "--source", "file"]).await;
        assert!(code > 0, "{form}: {said}");
        fs::remove_file(&path).expect("a file");
        let (code, said) = called(&gateway, &["pull", "--source", "file"]).await;
        assert!(code == 2 && said.contains(name), "{form}: {said}");
        assert_eq!(is_in_force(&gateway).await, (true, true), "{form}");
    }
}

#[tokio::test]
async fn an_export_of_another_kind_is_refused_by_name() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let (_, _, exchange) = FORMS[2];
    let path = gateway.path("export.csv");
    fs::write(&path, exchange).expect("a file");
    let path = path.display().to_string();
    for (form, why) in [
        ("seg-v2", "no column Identifier"),
        ("csv", "unknown column"),
    ] {
        let (code, said) = called(&gateway, &["import", &path, "--format", form]).await;
        assert!(code > 0 && said.contains(why), "{form}: {code} {said}");
    }
    assert_eq!(gateway.admin.read("/v1/report").await["devices"], 0);
}

/// Whole batches of what has arrived are there, and sending it again does the rest.
#[tokio::test]
async fn an_import_whose_sender_and_whose_gateway_die_is_resumed() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox)
        .set("compliance.unknown.device", "block")
        .start()
        .await;
    let line = |index: usize| {
        format!("{{\"device_id\":\"RES{index}\",\"user\":\"alice@sandbox.example\"}}\n")
    };
    let all: String = (0..5_000).map(line).collect();
    let part: String = (0..3_000).map(line).collect();
    let target = "/v1/devices:import?source=mdm";
    let mut sender = TcpStream::connect(gateway.admin.address)
        .await
        .expect("a connection");
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n{part}",
        gateway.admin.token,
        all.len()
    );
    sender.write_all(head.as_bytes()).await.expect("a part");
    let known = async |gateway: &Gateway| {
        let report = gateway.admin.read("/v1/report").await;
        report["devices"].as_u64().expect("a number")
    };
    // Two batches of 1,024 are whole; the third is not.
    eventually("two batches", || async {
        (known(&gateway).await == 2_048).then_some(())
    })
    .await;
    drop(sender);
    gateway.restart_after_kill().await;
    let kept = known(&gateway).await;
    assert_eq!(kept % 1_024, 0, "half a batch");
    let done = gateway.admin.write("POST", target, &all).await;
    assert_eq!(done["read"], 5_000);
    assert_eq!(done["unchanged"], kept);
    assert_eq!(done["applied"], 5_000 - kept);
    let again = gateway.admin.write("POST", target, &all).await;
    assert_eq!(
        (&again["applied"], &again["unchanged"]),
        (&0.into(), &5_000.into())
    );
    assert!(is_served(&gateway.ask(&folder_sync("RES4999")).await));
}

//! What was acknowledged is there after any end.

use std::fs;

use seg_tests::Gateway;
use seg_tests::message::Message;

use crate::sandbox::{self, FOLDER_SYNC_REFUSED, folder_sync, is_served};

#[tokio::test]
async fn kill_9_loses_no_acknowledged_change() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox).start().await;
    let mut expected = Vec::new();
    for round in 0..3 {
        for index in 0..10 {
            let device = format!("KILL{round}X{index}");
            gateway.admin.block(&device).await;
            expected.push(device);
        }
        let undone = format!("KILL{round}X0");
        gateway.admin.unblock(&undone).await;
        expected.retain(|device| *device != undone);
        gateway.restart_after_kill().await;
        for device in &expected {
            assert!(
                is_refused(&gateway.ask(&folder_sync(device)).await),
                "{device} in round {round}"
            );
        }
        assert!(
            is_served(&gateway.ask(&folder_sync(&undone)).await),
            "{undone}"
        );
    }
}

#[tokio::test]
async fn an_import_is_there_after_kill_9() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox)
        .set("compliance.unknown.device", "block")
        .start()
        .await;
    let lines: String = (0..5000)
        .map(|index| format!("{{\"device_id\":\"IMP{index}\",\"user\":\"alice@sandbox.example\",\"compliant\":{}}}\n", index % 2 == 0))
        .collect();
    let done = gateway
        .admin
        .write(
            "POST",
            "/v1/devices:import?mode=snapshot&source=mdm",
            &lines,
        )
        .await;
    assert_eq!(
        (&done["read"], &done["applied"]),
        (&5000.into(), &5000.into()),
        "{done}"
    );
    gateway.restart_after_kill().await;
    assert!(is_served(&gateway.ask(&folder_sync("IMP4998")).await));
    assert!(is_refused(&gateway.ask(&folder_sync("IMP4999")).await));
    assert!(is_refused(&gateway.ask(&folder_sync("IMP5000")).await));
}

#[tokio::test]
async fn a_damaged_store_is_survived_and_told() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox).start().await;
    gateway.admin.block("DAMAGED").await;
    assert!(is_refused(&gateway.ask(&folder_sync("DAMAGED")).await));
    let data = gateway.path("data");
    gateway.signal("KILL");
    gateway.ended().await;
    for file in store_files(&data) {
        let length = fs::metadata(&file).expect("a file").len();
        let junk: Vec<u8> = (0..length)
            .map(|at| u8::try_from(at % 251).unwrap_or_default())
            .collect();
        fs::write(&file, junk).expect("the file is written");
    }
    gateway.restart_after_kill().await;
    // Nothing is left and there is no export: each rung of the ladder is told, down to the last.
    let told = "no good export: starting empty; the sources must report again";
    gateway
        .event("the end of the ladder", |event| {
            event["level"] == "ERROR" && event["step"] == told
        })
        .await;
    let steps: Vec<String> = gateway
        .events()
        .iter()
        .filter_map(|event| Some(event["step"].as_str()?.to_owned()))
        .collect();
    let aside = "the store put aside as ";
    let begun = [
        "the store can't be opened: ",
        "the log ends at revision 0, ",
    ];
    assert!(
        begun.iter().any(|begun| steps[0].starts_with(begun)),
        "{steps:?}"
    );
    let kept = steps.iter().find_map(|step| step.strip_prefix(aside));
    let kept = kept.expect("the damaged store is kept");
    assert!(fs::exists(kept).expect("the folder can be read"), "{kept}");
    seg_tests::eventually("seg_store_ok 0", || async {
        (gateway.admin.metric("seg_store_ok", &[]).await == 0.0).then_some(())
    })
    .await;
    // The block is lost: its device is what every device is that nobody knows. What is said from
    // now on holds, and is durable.
    assert!(is_served(&gateway.ask(&folder_sync("DAMAGED")).await));
    gateway.admin.block("DAMAGED").await;
    gateway.restart_after_kill().await;
    assert!(is_refused(&gateway.ask(&folder_sync("DAMAGED")).await));
}

fn is_refused(answer: &Message) -> bool {
    answer.status() == 200 && answer.body == FOLDER_SYNC_REFUSED
}

/// Every file of sled's below the data folder, exports and the token left alone.
fn store_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the data folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(store_files(&path));
        } else if path
            .file_name()
            .is_some_and(|name| name == "db" || name == "conf")
        {
            found.push(path);
        }
    }
    found
}

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
    let data = gateway.path("data");
    let before = gateway.log().len();
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
    seg_tests::eventually("a word about the damage", || async {
        let log = gateway.log().split_off(before).to_lowercase();
        ["store", "journal"]
            .iter()
            .any(|word| log.contains(word))
            .then_some(())
    })
    .await;
    let answer = gateway.ask(&folder_sync("DAMAGED")).await;
    assert!(is_served(&answer) || is_refused(&answer));
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
